"""Label budgets as people give them: counts, shares of the training cases, split files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semiseg.comparison.grid import Grid, budget_name, check_name, share_of
from semiseg.comparison.opened import Opened
from semiseg.errors import InputError
from semiseg.settings import presets

_NEAR = 0.25
"""A share may differ so much, relative to it, from that of a budget with a published list: papers round."""


@dataclass(frozen=True)
class Budget:
    """A label budget of the grid.

    Attributes:
        name: in folders and tables, `l8`, `all`, or the name of a split file.
        labelled: number of labelled cases; None for all, and where a split file says it.
        split: the split file, if one was named.
    """

    name: str
    labelled: int | None = None
    split: Path | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Fields of a run."""
        found = {"labelled": self.labelled, "split": self.split}
        return {name: value for name, value in found.items() if value is not None}


ALL = Budget(budget_name(None))


def budgets_of(grid: Grid, preset: str | None, opened: Opened) -> list[Budget]:
    """The budgets that the grid asks for, with `preset`.

    Raises:
        InputError: a split file is not there, or a share is of something unknown.
    """
    counts = dict.fromkeys(_count(grid, wanted, preset, opened) for wanted in grid.labelled)
    files = [_split_file(grid.data, name) for name in grid.splits]
    return [Budget(budget_name(count), count) for count in counts] + [
        Budget(check_name(file.stem), split=file) for file in files
    ]


def test_cases(grid: Grid, opened: Opened) -> int:
    """Cases to keep for scoring: as asked, else a fifth of those that have a label."""
    if grid.test is not None:
        return grid.test
    return max(1, _with_label(grid, opened) // 5) if _is_there(grid.data) else 1


def _count(grid: Grid, wanted: int | str, preset: str | None, opened: Opened) -> int:
    if isinstance(wanted, int):
        return wanted
    share = share_of(wanted)
    published = _published(preset) if preset else {}
    if "all" in published:
        total = published.pop("all")
        nearest = min(published, key=lambda name: abs(published[name] / total - share), default=None)
        if nearest is not None and abs(published[nearest] / total - share) <= _NEAR * share:
            return int(nearest)
    elif _is_there(grid.data):
        total = _with_label(grid, opened) - test_cases(grid, opened)
    else:
        raise InputError(f"compare: labelled {wanted}: give the dataset folder, or a preset that knows its size")
    return max(1, int(share * total))


def _published(preset: str) -> dict[str, int]:
    """Numbers of cases by the budgets of a preset."""
    return {name: budget.cases for name, budget in presets.preset(preset).budgets.items()}


def _with_label(grid: Grid, opened: Opened) -> int:
    assert grid.data is not None
    return sum(case.label is not None for case in opened.dataset(grid.data).cases.values())


def _is_there(data: Path | None) -> bool:
    return data is not None and data.is_dir()


def _split_file(data: Path | None, name: str) -> Path:
    places = [Path(name)] if data is None else [data / "splits" / f"{name}.json", Path(name)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(f"compare: split {name}: expected {' or '.join(map(str, places))}, found neither")
    return found.absolute()
