"""Every score of a comparison as a row of its own, and the files of them."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from semiseg.comparison.cells import Cell
from semiseg.comparison.operations import kind_of
from semiseg.comparison.work import Record, State
from semiseg.evaluation.scores import patients_in
from semiseg.metrics.base import columns
from semiseg.runs.folder import Run

CASES = ("preset", "budget", "role", "method", "subset", "seed", "case", "class", "label", "metric", "value", "patient")
SUMMARY = ("experiment", "dataset", "split", "method", "seed", "class", "metric", "value")
Scores = Mapping[tuple[str, str], Mapping[str, float]]
"""Value by case, by class and metric."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A cell with what came of it.

    Attributes:
        scores: by class and metric, then by case; empty unless the cell is finished.
        texts: rows of `cases.csv` after the columns that name the cell, as the run wrote them.
        budget: labels for training and for selection.
        pool: cases that training may use, labelled or not.
        patients: patient by scored case; empty where the run does not tell.
        updates: optimiser updates of the training.
        labelled_patches: labelled patches of each.
    """

    cell: Cell
    record: Record
    scores: Scores = field(default_factory=dict)
    texts: tuple[tuple[str, ...], ...] = ()
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
        return tuple(dict.fromkeys(name for name, _ in self.scores))

    def mean(self, metric: str, name: str | None = None) -> float:
        """Mean over cases of one class, or the mean of the class means; NaN where nothing is defined."""
        if name is not None:
            return mean(self.scores[name, metric].values())
        return mean(self.mean(metric, each) for each in self.classes)

    def by_case(self, metric: str, name: str | None = None) -> dict[str, float]:
        """Value of each case for one class, or its mean over the classes where there is a value."""
        if name is not None:
            return dict(self.scores[name, metric])
        found = [self.scores[each, metric] for each in self.classes]
        return {case: mean(values[case] for values in found) for case in found[0]} if found else {}


def gather(cells: Iterable[Cell], records: Mapping[str, Record], output: Path) -> list[Outcome]:
    """The cells with the scores of those that are finished."""
    return [_outcome(cell, records[cell.name], cell.folder(output)) for cell in cells]


def cases_csv(outcomes: Sequence[Outcome]) -> str:
    """Tidy table: a row per cell, case, class and metric, in the units of a run's `scores.csv`."""
    return as_csv(CASES, (row for outcome in outcomes for row in _tidy(outcome)))


def summary_csv(outcomes: Sequence[Outcome], experiment: str) -> str:
    """A row per cell, class and metric: means over the cases, as docs/generate.py reads them."""
    return as_csv(SUMMARY, (row for outcome in outcomes for row in _summary(outcome, experiment)))


def as_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Text of a CSV file."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()


def mean(values: Iterable[float]) -> float:
    """Mean of those that are numbers; NaN where there is none."""
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan


def _outcome(cell: Cell, record: Record, folder: Path) -> Outcome:
    if record.state != "finished":
        return Outcome(cell, record)
    facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    scores: dict[tuple[str, str], dict[str, float]] = {}
    texts = []
    with (folder / "scores.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for metric in columns():
                scores.setdefault((row["class"], metric), {})[row["case"]] = float(row[metric])
                texts.append((row["case"], row["class"], row["label"], metric, row[metric]))
    labels: Mapping[str, int] = facts["label_budget"]
    run = Run(folder)
    split, config = run.split(), run.config()
    return Outcome(
        cell,
        record,
        scores,
        tuple(texts),
        budget=(labels["training"], labels["selection"]),
        pool=len(split.labelled) + len(split.unlabelled),
        protocol=str(facts["protocol"]),
        patients=patients_in(facts),
        updates=record.steps * kind_of(config).updates,
        labelled_patches=config.batch.labelled or run.plan().labelled_per_batch,
    )


def _tidy(outcome: Outcome) -> Iterator[Sequence[object]]:
    cell = outcome.cell
    head = (cell.preset, cell.budget, cell.role, cell.label, cell.subset, cell.seed)
    return ((*head, *text, outcome.patients.get(text[0], "")) for text in outcome.texts)


def _summary(outcome: Outcome, experiment: str) -> Iterator[Sequence[object]]:
    cell = outcome.cell
    name = f"{experiment}, preset {cell.preset}" if cell.preset else experiment
    seed = f"{cell.subset}/{cell.seed}" if cell.subset else cell.seed
    head = (name, cell.config.data.name, cell.budget, cell.label, seed)
    for (label, metric), values in outcome.scores.items():
        yield (*head, label, metric, f"{mean(values.values()):.6g}")
