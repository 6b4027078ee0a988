"""The papers' printed figures beside our lines, never mixed with them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semiseg.comparison.cells import UNNAMED, Cell
from semiseg.comparison.paper_tables import share_at
from semiseg.comparison.statistics import MEAN, Line
from semiseg.datasets.description import read_description
from semiseg.errors import InputError
from semiseg.metrics.base import columns
from semiseg.papers import DATASETS, Comparison, Figure, comparison, dataset_of, papers, preset_of, quotes
from semiseg.settings.presets import preset


@dataclass(frozen=True)
class Paper:
    """Whether the papers' figures stand beside ours, and of which dataset if its name does not say it."""

    shown: bool = False
    dataset: str | None = None


@dataclass(frozen=True)
class PublishedFigure:
    """A paper's figure for a line, in the unit of the line.

    Attributes:
        source: paper and table.
        selection: which weights the figure belongs to.
        differs: whether our mean is farther from it than the larger of both spreads; None where we have no spread.
    """

    paper: str
    source: str
    selection: str
    value: float
    std: float | None
    differs: bool | None


def check_known(cells: Iterable[Cell], dataset: str | None) -> None:
    """Refuse to look for the figures of a dataset that no paper has.

    Raises:
        InputError: none of the names of the dataset is known.
    """
    for cell in cells:
        if _dataset(cell, dataset) is None:
            name = dataset or cell.config.data.name
            raise InputError(
                f"compare: --paper: the papers have no figures of {name!r}: name the dataset that it is with "
                f"--paper-dataset, one of {', '.join(DATASETS)}"
            )


def published_figures(line: Line, dataset: str | None = None) -> Sequence[PublishedFigure]:
    """The figures that papers print for a line: means over classes only, distances in voxels.

    Args:
        line: ours.
        dataset: name of the dataset; default: as the preset, the dataset or its folder is called.
    """
    outcome = line.group.done[0]
    known = _dataset(outcome.cell, dataset)
    column = columns()[line.metric]
    if line.name != MEAN or column.unit == "mm" or known is None or not (outcome.pool and outcome.cell.plain):
        return ()
    found = []
    for quote in quotes(outcome.cell.config.method, known, outcome.budget[0] / outcome.pool):
        figure = quote.figures.get(column.metric.label)
        if figure is not None:
            value = figure.value / column.factor
            std = None if figure.std is None else figure.std / column.factor
            differs = _differs(line, value, std or 0.0)
            found.append(PublishedFigure(quote.paper.name, quote.source, quote.selection, value, std, differs))
    return found


def printed(
    cells: Sequence[Cell], tables: Sequence[str], dataset: str | None = None
) -> tuple[Mapping[str, Sequence[str]], Sequence[str]]:
    """What papers print for cells of a plan, `91.81/85.02/4.81/1.51`, in columns by paper and table, and a legend.

    Args:
        cells: of the plan.
        tables: the comparison tables of the grid, `ducisc/I`; of none, the main figures of every paper.
        dataset: name of the dataset; default: as the preset, the dataset or its folder is called.
    """
    asked = [comparison(name) for name in tables]
    found = [_printed(cell, asked, dataset) for cell in cells]
    headings = dict.fromkeys(heading for figures in found for heading in figures)
    columns = {heading: [_joined(figures.get(heading, {})) for figures in found] for heading in headings}
    rules = {paper.name: paper.selection for paper in papers()}
    first = [(heading, next(iter(of.values()))) for figures in found for heading, of in figures.items() if of]
    legend = [
        f"{heading}, {f.dataset}: {rules[f.paper].get(f.dataset, 'selection not stated')}." for heading, f in first
    ]
    units = f"Printed figures: {'/'.join(_SHOWN)} as far as printed; Dice, Jaccard in %, distances in voxels."
    return columns, [units, *dict.fromkeys(legend)]


_SHOWN = ("Dice", "Jaccard", "95HD", "ASD", "Q")


def _printed(cell: Cell, tables: Sequence[Comparison], named: str | None) -> Mapping[str, Mapping[str, Figure]]:
    dataset = _dataset(cell, named)
    if dataset is None or not cell.plain:
        return {}
    known = preset(preset_of(dataset))
    share = 1.0 if cell.role == "bound" else share_at(known, cell.budget)
    if share is None:
        return {}
    method = cell.config.method
    if tables:
        return {table.title: table.found(method, dataset, share) for table in tables if dataset in table.datasets}
    return {quote.source: quote.figures for quote in quotes(method, dataset, share)}


def _joined(figures: Mapping[str, Figure]) -> str:
    return "/".join(str(figures[metric]) for metric in _SHOWN if metric in figures) or "-"


def _differs(line: Line, value: float, std: float) -> bool | None:
    return None if math.isnan(line.spread) else abs(line.mean - value) > max(line.spread, std)


def _dataset(cell: Cell, named: str | None) -> str | None:
    if named:
        return dataset_of(named)
    data = cell.config.data
    own = (_name(data), data.name) if data != UNNAMED.absolute() else ()
    return dataset_of(*filter(None, (cell.preset, *own)))


def _name(data: Path) -> str:
    return read_description(data).name if (data / "dataset.json").is_file() else ""
