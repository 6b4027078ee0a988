"""Scoring a run on its test cases (counted), or any folder of predictions."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from semiseg.datasets.dataset import Dataset, open_dataset
from semiseg.errors import InputError
from semiseg.evaluation.evaluate import evaluate, evaluate_shard
from semiseg.evaluation.pairs import refuse_swapped
from semiseg.evaluation.scores import Scores
from semiseg.metrics.metrics import EmptyRule
from semiseg.runs.folder import INFERENCE, Run
from semiseg.settings.run import RunConfig
from semiseg.system.files import write_json
from semiseg.system.locks import locked
from semiseg.system.shards import Shard

_CARRIED = ("protocol", "stamps", "based_on", "deviations", "label_budget", "split", "patients")
"""What the scores take over from the run's provenance."""


def evaluate_folders(
    predictions: Path,
    labels: Path,
    output: Path | None,
    *,
    empty: EmptyRule = "diagonal",
    workers: int = 0,
    shard: Shard | None = None,
    cases: Collection[str] | None = None,
    pattern: str | None = None,
) -> Scores | None:
    """Score every label file of `labels`, or those of `cases`; of two single files, the one against the other.

    Class names come from the `dataset.json` beside the labels, or from the model that predicted. Scores of folders are
    written beside the predictions, those of single files only where `output` says.

    The cases of a `shard` wait for the call without one, which gives the scores.

    Raises:
        InputError: files are missing or do not fit together.
    """
    refuse_swapped(predictions, labels)
    target = output or (predictions if predictions.is_dir() else None)
    how: dict[str, Any] = {"empty": empty, "workers": workers, "cases": cases, "pattern": pattern}
    if shard is not None:
        if target is None:
            raise InputError("a shard of single files: leave --shard out")
        evaluate_shard(predictions, labels, target, shard, **how)
        return None
    names = _class_names(labels.parent / "dataset.json") or _class_names(predictions / INFERENCE)
    return evaluate(
        predictions,
        labels,
        class_names=names,
        output=target,
        parts=target,
        **how,
    )


def evaluate_run(
    path: Path,
    output: Path | None,
    *,
    empty: EmptyRule | None = None,
    workers: int = 0,
    shard: Shard | None = None,
    dataset: Dataset | None = None,
) -> Scores | None:
    """Score a run's predictions of its test cases, and count that the test labels were opened.

    Rules are those of the run's settings; `empty` goes before its rule for empty masks. Protocol, stamps, label budget
    and the count travel with the scores. The cases of a `shard` wait for the call without one, which gives the scores
    and counts. `dataset` is that of the run, where it is open already.

    Raises:
        InputError: no run folder, no test cases, no labels for them, or predictions are missing.
    """
    run = Run(path)
    if not (path / "config.yaml").is_file():
        raise InputError(
            f"{path}: no run folder (config.yaml is missing): give the folder that train wrote, or score predictions "
            f"against a folder of reference labels: semiseg evaluate {path} LABELS"
        )
    config, split, plan = run.config(), run.split(), run.plan()
    if not split.test:
        raise InputError(f"{path}: its split has no test cases: score a folder, as in semiseg evaluate PRED LABELS")
    if not run.predictions.is_dir():
        raise InputError(f"{path}: no predictions yet: run semiseg predict {path}")
    dataset = dataset or open_dataset(config.data)
    labels = {case: label for case in split.test if (label := dataset.cases[case].label) is not None}
    target = output or path
    how: dict[str, Any] = {"cases": split.test, "empty": empty or config.metrics.empty, "workers": workers}
    with locked(path, wait=True, part="" if shard is None else shard.name):
        if shard is not None:
            evaluate_shard(run.predictions, labels, target, shard, **how)
            return None
        opened = _count_opening(run)
        scores = evaluate(run.predictions, labels, class_names=plan.class_names, parts=target, **how)
        scores = _with_facts(scores, run, config, opened)
        scores.save(target)
    return scores


def _with_facts(scores: Scores, run: Run, config: RunConfig, opened: int) -> Scores:
    """Scores with what they owe to the run: protocol, stamps, label budget, windows, number of openings."""
    facts = json.loads((run.path / "provenance.json").read_text(encoding="utf-8"))
    kept = {name: facts[name] for name in _CARRIED if name in facts}
    how = _inference(run)
    return replace(
        scores,
        largest_component=bool(how.get("largest_component", False)),
        unit=config.metrics.unit,
        provenance={
            **scores.provenance,
            **kept,
            "method": config.method,
            "test_opened": opened,
            **({"inference": how} if how else {}),
        },
    )


def heading(scores: Scores) -> str:
    """One line that says under which rules the scores of a run were reached; empty for plain folders."""
    facts = scores.provenance
    if "label_budget" not in facts:
        return ""
    budget: dict[str, int] = facts["label_budget"]
    return (
        f"method: {facts['method']} · protocol: {facts['protocol']} · label budget: {budget['training']} (training) + "
        f"{budget['selection']} (selection) · test labels opened {facts['test_opened']} time(s)"
    )


def _inference(run: Run) -> dict[str, Any]:
    """How the predictions were made, as far as that was written beside them."""
    file = run.predictions / INFERENCE
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _count_opening(run: Run) -> int:
    file = run.path / "test_opened.json"
    opened = 1 + (json.loads(file.read_text(encoding="utf-8"))["times"] if file.exists() else 0)
    write_json(file, {"times": opened})
    return opened


def _class_names(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    try:
        labels: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["labels"]
        return tuple(sorted(labels, key=lambda name: int(labels[name])))
    except (ValueError, KeyError, TypeError):
        return None
