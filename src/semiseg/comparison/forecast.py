"""The complete plan of a comparison before anything is done: cells, settings, and time where it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from semiseg.comparison.cells import Cell
from semiseg.comparison.work import Record

UNKNOWN = "unknown"


def forecast(cells: Sequence[Cell], records: Mapping[str, Record], output: Path, workers: int) -> str:
    """The plan as text: a line per cell, then what is left and how long that takes.

    Time is steps times seconds per step, the median over finished cells of the same method and preset in `output`;
    where none is finished it is unknown.
    """
    speeds = _speeds(cells, records)
    rows = [("cell", "labels", "steps", "state", "estimate"), *(_row(cell, records, speeds) for cell in cells)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([f"Plan of {output}", "", *lines, "", *_sums(cells, records, speeds, workers)])


def _speeds(cells: Sequence[Cell], records: Mapping[str, Record]) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], list[float]] = {}
    for cell in cells:
        speed = records[cell.name].seconds_per_step
        if speed is not None:
            found.setdefault((cell.preset, cell.label), []).append(speed)
    return {key: median(values) for key, values in found.items()}


def _row(
    cell: Cell, records: Mapping[str, Record], speeds: Mapping[tuple[str, str], float]
) -> tuple[str, str, str, str, str]:
    record = records[cell.name]
    seconds = _seconds(cell, record, speeds)
    estimate = "-" if record.state == "finished" else duration(seconds)
    return cell.name, _labels(cell), _steps(cell), record.state, estimate


def _seconds(cell: Cell, record: Record, speeds: Mapping[tuple[str, str], float]) -> float | None:
    speed = speeds.get((cell.preset, cell.label))
    steps = record.steps or (None if _epochs(cell) else cell.config.steps)
    return None if speed is None or steps is None else speed * steps


def _epochs(cell: Cell) -> int | None:
    """Length in epochs, where the settings give it so."""
    found: int | None = cell.config.model_dump().get("epochs")
    return found


def _steps(cell: Cell) -> str:
    epochs = _epochs(cell)
    return f"{epochs} epochs" if epochs else str(cell.config.steps)


def _labels(cell: Cell) -> str:
    if cell.role == "bound":
        return "all"
    split = cell.config.split
    return str(cell.config.labelled) if cell.config.labelled else str(split.name if split else "all")


def _sums(
    cells: Sequence[Cell], records: Mapping[str, Record], speeds: Mapping[tuple[str, str], float], workers: int
) -> list[str]:
    states = [records[cell.name].state for cell in cells]
    lines = [
        f"{len(cells)} cells: {states.count('finished')} finished, {states.count('failed')} failed, "
        f"{states.count('open')} open."
    ]
    left = [cell for cell in cells if records[cell.name].state != "finished"]
    seconds = [_seconds(cell, records[cell.name], speeds) for cell in left]
    known = [value for value in seconds if value is not None]
    if known:
        lines.append(f"Training of {len(known)} of them: {duration(sum(known) / workers)} with {workers} at once.")
    unknown = dict.fromkeys(cell.label for cell, value in zip(left, seconds, strict=True) if value is None)
    if unknown:
        lines.append(f"Time unknown until a cell of the same method is finished: {', '.join(unknown)}.")
    return lines


def duration(seconds: float | None) -> str:
    """`2 h 05 min`, `3 min 20 s`, `12 s`; `unknown`."""
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
