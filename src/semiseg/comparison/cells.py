"""The cells of a grid: which trainings it means, each with its complete settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from semiseg.comparison.budgets import ALL, Budget, budgets_of, test_cases
from semiseg.comparison.controls import Control, Controls, controls_of, matched
from semiseg.comparison.grid import Grid, MethodEntry, unique
from semiseg.comparison.opened import Opened
from semiseg.errors import InputError, raise_all
from semiseg.settings.load import load_config
from semiseg.settings.merge import merge
from semiseg.settings.run import RunConfig

Role = Literal["control", "method", "bound"]
UNNAMED = Path("DATA")
"""Stands for the dataset in a plan that is made without one."""


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
