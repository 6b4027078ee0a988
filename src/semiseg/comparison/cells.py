"""The cells of a grid: which trainings it means, each with its complete settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from semiseg.comparison.budgets import ALL, Budget, budgets_of, test_cases
from semiseg.comparison.grid import Grid, MethodEntry, unique
from semiseg.config import RunConfig, load_config
from semiseg.errors import InputError, raise_all
from semiseg.layers import merge

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
    """

    label: str
    role: Role
    budget: str
    subset: int
    seed: int
    preset: str
    config: RunConfig
    bound: str = ALL.name

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


def cells_of(grid: Grid, assignments: Sequence[str] = ()) -> list[Cell]:
    """All cells, control before the methods and bounds last; seeds outermost, so that every table fills evenly.

    Raises:
        InputError: all that is wrong with the settings of any cell.
    """
    cells: list[Cell] = []
    problems: list[str] = []
    kept = test_cases(grid) if grid.labelled else 0
    for seed in grid.seeds:
        for preset in grid.presets or ("",):
            try:
                budgets = budgets_of(grid, preset or None)
            except InputError as error:
                problems += error.problems
                continue
            for entry, role, budget, subset in _places(grid, budgets):
                values = _values(grid, entry, budget, preset, seed)
                try:
                    config = load_config(None, values, assignments)
                except InputError as error:
                    problems += error.problems
                else:
                    cells.append(Cell(entry.label, role, budget.name, subset, seed, preset, _keeping(config, kept)))
    raise_all(unique(problems))
    _check_names(cells)
    return cells


def _places(grid: Grid, budgets: Sequence[Budget]) -> Iterator[tuple[MethodEntry, Role, Budget, int]]:
    control = grid.control_entry
    for budget in budgets:
        for subset in range(grid.subsets):
            if grid.control:
                yield control, "control", budget, subset
            for entry in grid.methods:
                if not (grid.control and entry == control):
                    yield entry, "method", budget, subset
    if grid.bound:
        yield control, "bound", ALL, 0


def _values(grid: Grid, entry: MethodEntry, budget: Budget, preset: str, seed: int) -> dict[str, Any]:
    values = merge(grid.settings, entry.settings)
    own = {"data": grid.data or UNNAMED, "prepared": grid.prepared, "steps": grid.steps}
    values |= {name: value for name, value in own.items() if value is not None}
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
