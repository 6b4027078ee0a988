"""Methods of a grid that a paper's comparison table names: `table:ducisc/I`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from semiseg.comparison.grid import CONTROL, Grid, MethodEntry, share_of, unique
from semiseg.errors import InputError, raise_all
from semiseg.papers import Comparison, Setup, comparison, dataset_of, registered
from semiseg.settings.presets import Preset, preset
from semiseg.validation import parse

PREFIX = "table:"


@dataclass(frozen=True)
class Choice:
    """A table, and the data in it that a grid asks for."""

    table: Comparison
    setups: tuple[Setup, ...]

    @property
    def methods(self) -> list[str]:
        """Our methods in its rows; supervised rows are controls and bounds."""
        return [name for name in registered(self.table.printed(self.setups))[0] if name != CONTROL]

    def __str__(self) -> str:
        missing = registered(self.table.printed(self.setups))[1]
        where = ", ".join(map(str, self.setups))
        absent = f"; not here: {', '.join(missing)}" if missing else ""
        return f"{self.table.title} ({where}): {', '.join(self.methods)}; supervised is control and bound{absent}."


def with_tables(grid: Grid, where: str) -> Grid:
    """`grid` with the methods of its tables, each once, in the tables' order after those that it names itself.

    Raises:
        InputError: there is no such table, or it has no data of one of the presets.
    """
    named = [entry.method.removeprefix(PREFIX) for entry in grid.methods if entry.method.startswith(PREFIX)]
    own = [entry for entry in grid.methods if not entry.method.startswith(PREFIX)]
    asked = grid.model_copy(update={"tables": tuple(dict.fromkeys((*grid.tables, *named)))})
    chosen = choices(asked)
    if not chosen:
        return grid
    labels = {entry.label for entry in own}
    methods = unique([name for choice in chosen for name in choice.methods if name not in labels])
    entries = [*own, *(MethodEntry(method=name) for name in methods)] or [MethodEntry(method=CONTROL)]
    tables = tuple(unique([choice.table.name for choice in chosen]))
    return parse(Grid, {**dict(grid), "methods": entries, "tables": tables}, where)


def choices(grid: Grid) -> list[Choice]:
    """The tables of a grid with the data that its presets and budgets choose; all data where it names no preset.

    Raises:
        InputError: there is no such table, or it has no data of one of the presets.
    """
    found: list[Choice] = []
    problems: list[str] = []
    for name in grid.tables:
        try:
            table = comparison(name)
            found.append(Choice(table, tuple(dict.fromkeys(_setups(grid, table)))))
        except InputError as error:
            problems += [f"compare: {problem}" for problem in error.problems]
    raise_all(problems)
    return found


def _setups(grid: Grid, table: Comparison) -> Iterator[Setup]:
    presets = [preset(name) for name in grid.presets]
    for found in presets:
        dataset = dataset_of(found.name)
        if dataset not in table.datasets:
            fitting = unique([setup.preset for setup in table.columns])
            raise InputError(f"{PREFIX}{table.name}: expected --preset {' or '.join(fitting)}, came {found.name}")
        yield from table.chosen(dataset, shares(grid, found))
    if not presets:
        yield from table.chosen()


def shares(grid: Grid, found: Preset) -> Sequence[float]:
    """The shares of the scans of a preset's dataset that a grid has labelled."""
    files = [share_at(found, Path(name).stem) for name in grid.splits]
    asked = [share_of(wanted) if isinstance(wanted, str) else _share(found, wanted) for wanted in grid.labelled]
    return [share for share in (*asked, *files) if share is not None]


def share_at(found: Preset, budget: str) -> float | None:
    """The share of a budget called `l8`, `all`, or by its split file; None where the preset does not know it."""
    if budget.removeprefix("l").isdigit():
        return _share(found, int(budget.removeprefix("l")))
    known = found.budget(None, Path(budget)) if budget != "all" else found.budgets["all"]
    return known.cases / found.budgets["all"].cases if known else None


def _share(found: Preset, labelled: int) -> float:
    known = found.budget(labelled)
    return (known.cases if known else labelled) / found.budgets["all"].cases
