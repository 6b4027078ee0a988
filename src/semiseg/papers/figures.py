"""Figures that the papers print, in one schema."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

COLUMNS = ("table", "method", "dataset", "labelled", "metric", "value", "std", "note")


@dataclass(frozen=True)
class Figure:
    """One printed number.

    Attributes:
        paper: name of its files here, `ducisc`.
        table: number of the table as printed, or `text`.
        method: row of the table; in ablations the name of the row.
        dataset: `LA`, `Pancreas-NIH`, `AMOS` ...
        labelled: share of the training scans that are labelled, `10%`.
        metric: `Dice` and `Jaccard` in %, `ASD` and `95HD` in voxels; `Dice Sp` ... of one organ; `Q`; `p-value`.
        value: the number.
        std: standard deviation over the paper's runs, where one is printed.
        note: what is odd about it.
    """

    paper: str
    table: str
    method: str
    dataset: str
    labelled: str
    metric: str
    value: float
    std: float | None = None
    note: str = ""

    def __str__(self) -> str:
        digits = 4 if self.metric == "Q" else 2
        spread = "" if self.std is None else f" ± {self.std:.{digits}f}"
        return f"{self.value:.{digits}f}{spread}"


@cache
def figures(paper: str) -> tuple[Figure, ...]:
    """All figures of the paper called `paper` (the name of its files, such as `ducisc`), in the paper's order."""
    text = (files("semiseg.papers") / f"{paper}.csv").read_text(encoding="utf-8")
    return tuple(_figure(paper, row) for row in csv.DictReader(text.splitlines()))


def _figure(paper: str, row: dict[str, str]) -> Figure:
    value, std = float(row.pop("value")), row.pop("std")
    return Figure(paper, **row, value=value, std=float(std) if std else None)
