"""`semiseg demo`: the whole job on generated scans, and the question whether the unlabelled ones helped."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from semiseg.api.data import PathLike, prepare
from semiseg.api.runs import evaluate, predict, train
from semiseg.datasets.dataset import open_dataset
from semiseg.evaluation.scores import Scores
from semiseg.phantom.cohort import PhantomConfig, make_cohort
from semiseg.reports.build import write_report
from semiseg.reports.overlay import overlay_extremes
from semiseg.runs.folder import Run
from semiseg.system.files import write_json

METHODS = ("supervised", "micd")

COHORT = PhantomConfig(shape=(96, 72), organs=6, labelled=3, unlabelled=20, test=8)

SETTINGS: dict[str, Any] = {
    "steps": 800,
    "accelerator": "cpu",
    "batch": {"labelled": 3, "unlabelled": 3},
    "network": {"options": {"filters": [16, 32, 64, 128]}},
    "checkpoint_every": 400,
}
"""What both methods share."""


def demo(output: PathLike = "demo", *, seeds: Sequence[int] = (0,), show: bool = True) -> Mapping[str, Any]:
    """Generate a cohort, train the supervised control and MICD with the same steps, and compare them on test scans.

    Writes run folders, overlay pictures of the worst, median and best case, `report.html`, and `summary.json` with
    mean foreground Dice (over classes, cases and seeds), Dice per class and Dice per seed. What is finished is not done
    again.

    Raises:
        InputError: the folder cannot be written.
    """
    output = Path(output)
    console = Console(quiet=not show)
    began = time.perf_counter()
    data = make_cohort(output / "data", COHORT)
    prepare(data)
    scores: dict[str, list[Scores]] = {name: [] for name in METHODS}
    for seed in seeds:
        for name in METHODS:
            console.print(f"[bold]{name}[/bold], seed {seed}: training, prediction, scores")
            scores[name].append(_one_run(data, output, name, seed, show=show))
    seconds = time.perf_counter() - began
    methods = {name: _summary(found) for name, found in scores.items()}
    summary = {"methods": methods, "seconds": round(seconds, 1)}
    write_json(output / "summary.json", summary)
    write_report([output / f"{name}_seed{seed}" for seed in seeds for name in METHODS], output / "report.html")
    console.print(_table(methods))
    console.print(
        f"{COHORT.labelled} labelled and {COHORT.unlabelled} unlabelled scans, {COHORT.test} test scans, "
        f"{len(seeds)} seed(s), {SETTINGS['steps']} steps each, {seconds:.0f} s. Report: {output}/report.html"
    )
    return summary


def _one_run(data: Path, output: Path, method: str, seed: int, *, show: bool) -> Scores:
    folder = output / f"{method}_seed{seed}"
    run = train(data, folder, method=method, seed=seed, split=data / "splits" / "demo.json", show=show, **SETTINGS)
    predictions = predict(run.path)
    scores = evaluate(run.path)
    _draw(run, scores, predictions)
    return scores


def _draw(run: Run, scores: Scores, predictions: Mapping[str, Path]) -> None:
    cases = open_dataset(run.config().data).cases
    images = {case: cases[case].images[0] for case in predictions}
    labels = {case: label for case in predictions if (label := cases[case].label) is not None}
    overlay_extremes(scores, images, labels, predictions, run.path)


def _summary(scores: Sequence[Scores]) -> dict[str, Any]:
    names = scores[0].class_names[1:]
    per_class = {
        name: float(np.mean([found.summary("dice", label).mean for found in scores]))
        for label, name in enumerate(names, start=1)
    }
    per_seed = [found.mean("dice") for found in scores]
    return {"dice": float(np.mean(per_seed)), "per_class": per_class, "per_seed": per_seed}


def _table(methods: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("Dice %", *methods, "difference")
    rows = {"mean": {name: found["dice"] for name, found in methods.items()}}
    for organ in next(iter(methods.values()))["per_class"]:
        rows[organ] = {name: found["per_class"][organ] for name, found in methods.items()}
    for label, row in rows.items():
        control, ours = row.values()
        table.add_row(label, *(f"{100 * value:.1f}" for value in (control, ours)), f"{100 * (ours - control):+.1f}")
    return table
