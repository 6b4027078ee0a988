"""What is done already, and whether it is what is asked for now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semiseg.comparison.cells import Cell
from semiseg.comparison.opened import Opened
from semiseg.comparison.work import Record, record_of, task_of
from semiseg.errors import InputError
from semiseg.runs.folder import Run
from semiseg.settings.run import RunConfig

_SHOWN = 3


def records_of(cells: Sequence[Cell], output: Path) -> dict[str, Record]:
    """The record of every cell by its name."""
    return {cell.name: record_of(task_of(cell, output)) for cell in cells}


def check_same(cells: Sequence[Cell], output: Path, opened: Opened) -> None:
    """Compare what runs in `output` were asked to do with what is asked now.

    Raises:
        InputError: some hold runs with other settings or another split; all differences in one problem.
    """
    found: dict[str, list[str]] = {}
    for cell in cells:
        for change in _changes(cell, output, opened):
            found.setdefault(change, []).append(cell.name)
    if found:
        told = "; ".join(f"{change} in {_listed(names)}" for change, names in found.items())
        raise InputError(
            f"{output}: holds cells that were run with other settings ({told}): restore the settings, or choose "
            "another --output; what is finished is never overwritten"
        )


def _changes(cell: Cell, output: Path, opened: Opened) -> list[str]:
    run = Run(cell.folder(output))
    if not (run.path / "config.yaml").is_file():
        return []
    found = differences(run.config(), cell.config)
    path = cell.config.split
    if not found and path is not None and path.is_file() and opened.split(cell.config).digest != run.split().digest:
        found.append(f"the cases in {path}")
    return found


def differences(was: RunConfig, now: RunConfig) -> list[str]:
    """Settings that differ, in words. Steps that a run has from its epochs are not asked for, nor is the length of an
    epoch where that is not known yet.
    """
    old, new = was.model_dump(mode="json"), now.model_dump(mode="json")
    if new.get("epochs"):
        old["steps"] = new["steps"]
    if new.get("epoch_steps") is None:
        old["epoch_steps"] = None
    return list(_differences(old, new, ""))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str) -> list[str]:
    found = []
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name), new.get(name)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            found += _differences(was, now, f"{prefix}{name}.")
        elif was != now:
            found.append(f"{prefix}{name}: was {was!r}, now {now!r}")
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
