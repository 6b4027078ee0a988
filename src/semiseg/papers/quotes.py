"""What papers print for one of our methods on a dataset, to stand beside our own numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from semiseg.methods.base import entry
from semiseg.papers.figures import Figure
from semiseg.papers.tables import Paper, papers

ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "supervised": ("V-Net", "U-Net", "V-Net (fully)"),
    "mean_teacher": ("MT",),
    "cps": ("CPS",),
    "dhc": ("DHC",),
    "uamt": ("UA-MT",),
    "urpc": ("URPC",),
    "ssnet": ("SS-Net",),
    "dst": ("DST",),
    "depl": ("DePL",),
    "adsh": ("Adsh",),
    "crest": ("CReST",),
    "simis": ("SimiS",),
    "basak": ("Basak et al.",),
    "cld": ("CLD",),
}
"""Names under which the tables of the papers print methods that come from elsewhere."""

_OWN: Mapping[str, tuple[str, ...]] = {
    "micd": ("MICD",),
    "ducisc": ("DuCiSC",),
    "cml": ("CML",),
    "lefed": ("LeFeD", "t=3"),
}
"""Names of the papers' own methods in their main figures."""

_NEAR = 0.25
"""4 of 80 scans are 5 %, and papers say 5 % of 10 among 216 as well: so much may a share differ, relative to it."""


@dataclass(frozen=True)
class Quote:
    """The row of a paper's table.

    Attributes:
        paper: which one.
        selection: which weights its figures belong to.
        figures: by metric as printed, `Dice`.
    """

    paper: Paper
    selection: str
    figures: Mapping[str, Figure]

    @property
    def source(self) -> str:
        """`DuCiSC, Table I`."""
        table = next(iter(self.figures.values())).table
        return f"{_own(self.paper.method)[0]}, {'text' if table == 'text' else f'Table {table}'}"


def quotes(method: str, dataset: str, share: float) -> list[Quote]:
    """What each paper prints in its main figures for `method` on `dataset` with about `share` of the scans labelled."""
    found = []
    for paper in papers():
        figures = _figures(paper, method, dataset, share)
        if figures:
            found.append(Quote(paper, paper.selection.get(dataset, "not stated"), figures))
    return found


def _figures(paper: Paper, method: str, dataset: str, share: float) -> dict[str, Figure]:
    tables = {result.table for result in paper.results}
    names = _names(method)
    rows: dict[tuple[float, int, str], dict[str, Figure]] = {}
    for figure in paper.figures:
        printed = int(figure.labelled.rstrip("%")) / 100
        near = abs(printed - share) <= _NEAR * share
        if figure.table in tables and figure.dataset == dataset and figure.method in names and near:
            key = abs(printed - share), names.index(figure.method), figure.table
            rows.setdefault(key, {})[figure.metric] = figure
    return rows[min(rows)] if rows else {}


def _names(method: str) -> tuple[str, ...]:
    return ELSEWHERE.get(method, _own(method))


def _own(method: str) -> tuple[str, ...]:
    """A paper's names of its own method, whichever variant `method` is."""
    return next((names for name, names in _OWN.items() if entry(name).cls is entry(method).cls), ())
