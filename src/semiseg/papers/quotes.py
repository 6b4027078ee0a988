"""What papers print for one of our methods on a dataset, to stand beside our own numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from semiseg.papers.comparisons import is_near
from semiseg.papers.figures import Figure
from semiseg.papers.names import names_of
from semiseg.papers.tables import Paper, papers


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
        return f"{self.paper.label}, {'text' if table == 'text' else f'Table {table}'}"


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
    names = names_of(method)
    rows: dict[tuple[float, int, str], dict[str, Figure]] = {}
    for figure in paper.figures:
        printed = int(figure.labelled.rstrip("%")) / 100
        near = is_near(printed, share)
        if figure.table in tables and figure.dataset == dataset and figure.method in names and near:
            key = abs(printed - share), names.index(figure.method), figure.table
            rows.setdefault(key, {})[figure.metric] = figure
    return rows[min(rows)] if rows else {}
