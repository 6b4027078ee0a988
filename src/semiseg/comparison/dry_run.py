"""The complete plan of a comparison before anything is done: cells, steps, states, and measured time where there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from types import MappingProxyType

from semiseg.comparison.cells import Cell
from semiseg.comparison.work import Record

UNKNOWN = "unknown"


def plan_text(
    cells: Sequence[Cell],
    records: Mapping[str, Record],
    output: Path,
    workers: int,
    beside: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> str:
    """The plan: a line per cell, then what is left and how long that takes.

    `beside` are further columns by their headings, with a text per cell.

    Time is steps times seconds per step, the median over finished cells of the same method and preset in `output`;
    where none is finished, it is unknown.
    """
    speeds = _speeds(cells, records)
    open_cells = [cell for cell in cells if records[cell.name].state != "finished"]
    left = {cell.name: _seconds(cell, records[cell.name], speeds) for cell in open_cells}
    states = [records[cell.name].state for cell in cells]
    times = [duration(left[cell.name]) if cell.name in left else "-" for cell in cells]
    facts = [(cell.name, _labels(cell), _steps(cell)) for cell in cells]
    header = ("cell", "labels", "steps", *beside, "state", "time")
    more = list(zip(*beside.values(), strict=True)) or [()] * len(cells)
    rows = [header, *((*fact, *texts, *rest) for fact, texts, *rest in zip(facts, more, states, times, strict=True))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("finished", "failed", "open"))
    lines += ["", f"{len(cells)} cells: {counts}."]
    known = [seconds for seconds in left.values() if seconds is not None]
    if known:
        lines.append(f"Training of {len(known)} of them: {duration(sum(known) / workers)} with {workers} at once.")
    unknown = dict.fromkeys(cell.label for cell in open_cells if left[cell.name] is None)
    if unknown:
        lines.append(f"Time unknown until a cell of the same method is finished: {', '.join(unknown)}.")
    return "\n".join([f"Plan of {output}", "", *lines])


def _speeds(cells: Sequence[Cell], records: Mapping[str, Record]) -> dict[tuple[str, str], float]:
    """Seconds per step by preset and method."""
    found: dict[tuple[str, str], list[float]] = {}
    for cell in cells:
        speed = records[cell.name].seconds_per_step
        if speed is not None:
            found.setdefault((cell.preset, cell.label), []).append(speed)
    return {key: median(values) for key, values in found.items()}


def _seconds(cell: Cell, record: Record, speeds: Mapping[tuple[str, str], float]) -> float | None:
    speed, config = speeds.get((cell.preset, cell.label)), cell.config
    length = config.steps if config.epochs is None else config.epochs * (config.epoch_steps or 0)
    steps = record.steps or length
    return None if speed is None or not steps else speed * steps


def _steps(cell: Cell) -> str:
    config = cell.config
    return str(config.steps) if config.epochs is None else f"{config.epochs} epochs"


def _labels(cell: Cell) -> str:
    if cell.role == "bound":
        return "all"
    split = cell.config.split
    return str(cell.config.labelled) if cell.config.labelled else str(split.name if split else "all")


def duration(seconds: float | None) -> str:
    """`2 h 05 min`, `3 min 20 s`, `12 s`; `unknown`."""
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
