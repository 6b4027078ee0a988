"""The cells of a grid: which trainings it means, each with its complete settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from semiseg.comparison.controls import Control, Controls, controls_of, matched
from semiseg.comparison.grid import Grid, MethodEntry, budget_name, check_name, share_of, unique
from semiseg.comparison.opened import Opened
from semiseg.errors import InputError, raise_all
from semiseg.settings import presets
from semiseg.settings.load import load_config
from semiseg.settings.merge import merge
from semiseg.settings.run import RunConfig

Role = Literal["control", "method", "bound"]
UNNAMED = Path("DATA")
"""Stands for the dataset in a plan that is made without one."""
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


@dataclass(frozen=True)
class Cell:
    """One training of the grid.

    Attributes:
        label: name of the method in tables.
        role: what the cell is in the comparison.
        budget: name of its label budget; bounds have all labels.
        subset: draw of the labelled cases.
        preset: name, or "".
        config: settings; without a split until `with_splits` has given it one.
        bound: name of the budget of the bound that belongs to the cell.
        control: of a method, name of its plain control; "" where it has none.
        kin: of a method, name of the control of its kind; "" where that is the plain one.
        plain: False for controls of a kind, which no paper prints.
    """

    label: str
    role: Role
    budget: str
    subset: int
    seed: int
    preset: str
    config: RunConfig
    bound: str = ALL.name
    control: str = ""
    kin: str = ""
    plain: bool = True

    @property
    def name(self) -> str:
        """Name of its run folder."""
        draw = f"_d{self.subset}" if self.subset else ""
        return f"{self.preset}{'_' * bool(self.preset)}{self.label}_{self.budget}{draw}_s{self.seed}"

    @property
    def repeat(self) -> tuple[int, int]:
        """Subset and seed; cells of different methods are compared where these agree."""
        return self.subset, self.seed

    def folder(self, output: Path) -> Path:
        """Run folder."""
        return output / "runs" / self.name


def cells_of(grid: Grid, assignments: Sequence[str] = (), opened: Opened | None = None) -> list[Cell]:
    """All cells, controls before the methods and bounds last; seeds outermost, so that every table fills evenly.

    Raises:
        InputError: all that is wrong with the settings of any cell.
    """
    opened = opened or Opened()
    cells: list[Cell] = []
    problems: list[str] = []
    for seed in grid.seeds:
        for preset in grid.presets or ("",):
            try:
                cells += _Column(grid, tuple(assignments), preset, seed, opened).cells()
            except InputError as error:
                problems += error.problems
    raise_all(unique(problems))
    _check_names(cells)
    return cells


@dataclass(frozen=True)
class _Column:
    """The cells of one seed and preset."""

    grid: Grid
    assignments: tuple[str, ...]
    preset: str
    seed: int
    opened: Opened

    def cells(self) -> list[Cell]:
        """All of them, bounds last.

        Raises:
            InputError: all that is wrong with their settings.
        """
        problems: list[str] = []
        found: list[Cell] = []
        bounds: dict[str, Cell] = {}
        for budget in budgets_of(self.grid, self.preset or None, self.opened):
            try:
                own, methods = self._settings(budget)
                controls = controls_of(self.grid, own, list(methods.values()))
            except InputError as error:
                problems += error.problems
                continue
            for subset in range(self.grid.subsets):
                found += self._at(budget, subset, controls, methods)
            for control in controls.found if self.grid.bound else ():
                if control.plain and control.label not in bounds:
                    bounds[control.label] = self._bound(control)
        raise_all(problems)
        return [*found, *bounds.values()]

    def _settings(self, budget: Budget) -> tuple[RunConfig, dict[str, RunConfig]]:
        """Settings of the control where nothing stands beside it, and of the methods."""
        grid = self.grid
        problems: list[str] = []
        control = grid.control_entry
        found: dict[str, RunConfig] = {}
        entries = {entry.label: entry for entry in grid.methods if not (grid.control and entry == control)}
        wanted = {control.label: control, **entries} if grid.control or grid.bound else entries
        for label, entry in wanted.items():
            try:
                found[label] = self._load(entry, budget)
            except InputError as error:
                problems += error.problems
        raise_all(problems)
        own = found.get(control.label) or next(iter(found.values()))
        return own, {label: found[label] for label in entries}

    def _load(self, entry: MethodEntry, budget: Budget) -> RunConfig:
        values = _values(self.grid, entry, budget, self.preset, self.seed)
        kept = test_cases(self.grid, self.opened) if self.grid.labelled else 0
        return _keeping(load_config(None, values, self.assignments), kept)

    def _at(self, budget: Budget, subset: int, controls: Controls, methods: Mapping[str, RunConfig]) -> Iterator[Cell]:
        place = budget.name, subset, self.seed, self.preset
        shown = controls.found if self.grid.control else ()
        for control in shown:
            yield Cell(control.label, "control", *place, control.config, plain=control.plain)
        beside = zip(methods.items(), controls.plain, controls.kin, strict=True)
        for (label, config), plain, kin in beside:
            if label not in {control.label for control in shown}:
                names = (plain, kin) if shown else ("", "")
                yield Cell(label, "method", *place, config, control=names[0], kin=names[1])

    def _bound(self, control: Control) -> Cell:
        """The control with all labels of the training cases, as long."""
        found = matched(self.grid, self._load(self.grid.control_entry, ALL), control.config)
        return Cell(found.label, "bound", ALL.name, 0, self.seed, self.preset, found.config)


def _values(grid: Grid, entry: MethodEntry, budget: Budget, preset: str, seed: int) -> dict[str, Any]:
    own = {"data": grid.data or UNNAMED, "prepared": grid.prepared, "steps": grid.steps}
    given = {name: value for name, value in own.items() if value is not None}
    values = merge(merge(grid.settings, given), entry.settings)
    values |= {"method": entry.method, "seed": seed, **budget.settings}
    return values | ({"preset": preset} if preset else {})


def _keeping(config: RunConfig, test: int) -> RunConfig:
    """`config` with a number of test cases, where no split file names them."""
    return config if config.split else config.model_copy(update={"test": config.test or test})


def _check_names(cells: Sequence[Cell]) -> None:
    names = [cell.name for cell in cells]
    raise_all(
        f"compare: two cells would be called {name}: the grid has something twice (budgets, seeds, presets)"
        for name in unique([name for name in names if names.count(name) > 1])
    )


def with_config(cell: Cell, **changes: Any) -> Cell:
    """The cell with some settings changed."""
    return replace(cell, config=cell.config.model_copy(update=changes))


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
