"""What came of the cells: every score as a row of its own, and the files of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from semiseg.comparison.cells import Cell
from semiseg.comparison.work import Record, State
from semiseg.evaluation.scores import patients_in
from semiseg.metrics.base import columns
from semiseg.runs.folder import Run
from semiseg.speed.operations import kind_of

SCORE = ("case", "class", "label", "metric", "value")
CASES = ("preset", "budget", "role", "method", "subset", "seed", *SCORE, "patient")
SUMMARY = ("experiment", "dataset", "split", "method", "seed", "class", "metric", "value")


@dataclass(frozen=True, eq=False)
class Outcome:
    """A cell with what came of it.

    Attributes:
        scores: a row per case, class and metric with the columns `SCORE`; empty unless the cell is finished.
        budget: labels for training and for selection.
        pool: cases that training may use, labelled or not.
        patients: patient by scored case; empty where the run does not tell.
        updates: optimiser updates of the training.
        labelled_patches: labelled patches of each.
    """

    cell: Cell
    record: Record
    scores: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=SCORE))
    budget: tuple[int, int] = (0, 0)
    pool: int = 0
    protocol: str = ""
    patients: Mapping[str, str] = field(default_factory=dict)
    updates: int = 0
    labelled_patches: int = 0

    @property
    def state(self) -> State:
        """Finished, failed or open."""
        return self.record.state

    @property
    def classes(self) -> tuple[str, ...]:
        """Foreground classes in order."""
        return tuple(self.scores["class"].unique())

    def mean(self, metric: str, name: str | None = None) -> float:
        """Mean over cases of one class, or the mean of the class means; NaN where nothing is defined."""
        means = self._of_metric[metric].mean()
        return float(means.mean() if name is None else means[name])

    def by_case(self, metric: str, name: str | None = None) -> dict[str, float]:
        """Value of each case for one class, or its mean over the classes where there is a value."""
        found = self._of_metric[metric]
        return dict((found.mean(axis=1) if name is None else found[name]).items())

    @cached_property
    def _of_metric(self) -> dict[str, pd.DataFrame]:
        """Values by metric, `[cases, classes]`."""
        groups = self.scores.groupby("metric", sort=False)
        return {name: rows.pivot(index="case", columns="class", values="value") for name, rows in groups}


def gather(cells: Iterable[Cell], records: Mapping[str, Record], output: Path) -> list[Outcome]:
    """The cells with the scores of those that are finished."""
    return [_outcome(cell, records[cell.name], cell.folder(output)) for cell in cells]


def cases_csv(outcomes: Sequence[Outcome]) -> str:
    """Tidy table: a row per cell, case, class and metric, in the units of a run's `scores.csv`."""
    found = []
    for outcome in outcomes:
        patients = outcome.scores["case"].map(lambda case, known=outcome.patients: known.get(case, ""))
        found.append(outcome.scores.assign(**_names(outcome.cell), patient=patients))
    return as_csv(_joined(found, CASES))


def summary_csv(outcomes: Sequence[Outcome], experiment: str) -> str:
    """A row per cell, class and metric: means over the cases, as docs/generate.py reads them."""
    found = []
    for outcome in outcomes:
        cell = outcome.cell
        means = outcome.scores.groupby(["class", "metric"], sort=False)["value"].mean().reset_index()
        place = {
            "experiment": f"{experiment}, preset {cell.preset}" if cell.preset else experiment,
            "dataset": cell.config.data.name,
            "split": cell.budget,
            "method": cell.label,
            "seed": f"{cell.subset}/{cell.seed}" if cell.subset else str(cell.seed),
        }
        found.append(means.assign(**place))
    return as_csv(_joined(found, SUMMARY), digits=6)


def as_csv(frame: pd.DataFrame, *, digits: int | None = None) -> str:
    """Text of a CSV file, with `nan` where a number is undefined; all digits unless a number of them is given."""
    form = f"%.{digits}g" if digits else None
    return str(frame.to_csv(index=False, na_rep="nan", float_format=form, lineterminator="\n"))


def _names(cell: Cell) -> dict[str, Any]:
    values = cell.preset, cell.budget, cell.role, cell.label, cell.subset, cell.seed
    return dict(zip(CASES, values, strict=False))


def _joined(frames: Sequence[pd.DataFrame], header: Sequence[str]) -> pd.DataFrame:
    known = [frame for frame in frames if len(frame)]
    return pd.concat(known)[list(header)] if known else pd.DataFrame(columns=header)


def read_scores(path: Path) -> pd.DataFrame:
    """Rows of a run's `scores.csv`, one per case, class and metric; NaN for metrics that its version did not have."""
    place, metrics = list(SCORE[:3]), list(columns())
    texts = pd.read_csv(path, dtype=str, keep_default_na=False)
    texts = texts.reindex(columns=[*place, *metrics], fill_value="nan")
    rows = texts.melt(place, metrics, var_name="metric", value_name="value", ignore_index=False)
    rows = rows.sort_index(kind="stable").reset_index(drop=True)
    return rows.assign(value=rows["value"].map(float))


def _outcome(cell: Cell, record: Record, folder: Path) -> Outcome:
    if record.state != "finished":
        return Outcome(cell, record)
    facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    labels: Mapping[str, int] = facts["label_budget"]
    run = Run(folder)
    split, config = run.split(), run.config()
    return Outcome(
        cell,
        record,
        read_scores(folder / "scores.csv"),
        budget=(labels["training"], labels["selection"]),
        pool=len(split.labelled) + len(split.unlabelled),
        protocol=str(facts["protocol"]),
        patients=patients_in(facts),
        updates=record.steps * kind_of(config).updates,
        labelled_patches=config.batch.labelled or run.plan().labelled_per_batch,
    )
