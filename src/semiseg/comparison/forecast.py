"""The complete plan of a comparison before anything is done: cells, settings, and the time that they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from semiseg.comparison.cells import Cell
from semiseg.comparison.operations import TFLOPS, training_flops
from semiseg.comparison.work import Record

UNKNOWN = "unknown"


def forecast(
    cells: Sequence[Cell], records: Mapping[str, Record], output: Path, workers: int, tflops: float = TFLOPS
) -> str:
    """The plan as text: a line per cell, then what is left and how long that takes.

    Time is steps times seconds per step, the median over finished cells of the same method and preset in `output`.
    Where none is finished, it is counted operations over the `tflops` (10^12 per second) that a GPU sustains, for cells
    with a preset, and is marked by `~`; else it is unknown.
    """
    speeds = _speeds(cells, records)
    counted = {
        cell.name: flops / (1e12 * tflops)
        for cell in cells
        if _seconds(cell, records[cell.name], speeds) is None and (flops := _flops(cell)) is not None
    }
    rows = [
        ("cell", "labels", "steps", "state", "estimate"),
        *(_row(cell, records[cell.name], speeds, counted) for cell in cells),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    sums = _sums(cells, records, speeds, counted, workers)
    return "\n".join([f"Plan of {output}", "", *lines, "", *sums, *_assumption(counted, tflops)])


def _flops(cell: Cell) -> float | None:
    return training_flops(cell.config, cell.preset) if cell.preset else None


def _assumption(counted: Mapping[str, float], tflops: float) -> list[str]:
    if not counted:
        return []
    return [
        f"~ is not measured: the operations of a step were counted, and a GPU is taken to sustain {tflops:g} TFLOP/s "
        f"(--tflops); the peak of an H200 in bfloat16 is 790, of which 3D convolutions reach a tenth to a half. "
        "Validation, prediction and scoring come on top."
    ]


def _speeds(cells: Sequence[Cell], records: Mapping[str, Record]) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], list[float]] = {}
    for cell in cells:
        speed = records[cell.name].seconds_per_step
        if speed is not None:
            found.setdefault((cell.preset, cell.label), []).append(speed)
    return {key: median(values) for key, values in found.items()}


def _row(
    cell: Cell, record: Record, speeds: Mapping[tuple[str, str], float], counted: Mapping[str, float]
) -> tuple[str, str, str, str, str]:
    estimate = duration(_seconds(cell, record, speeds))
    if record.state == "finished":
        estimate = "-"
    elif cell.name in counted:
        estimate = f"~{duration(counted[cell.name])}"
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
    cells: Sequence[Cell],
    records: Mapping[str, Record],
    speeds: Mapping[tuple[str, str], float],
    counted: Mapping[str, float],
    workers: int,
) -> list[str]:
    states = [records[cell.name].state for cell in cells]
    lines = [
        f"{len(cells)} cells: {states.count('finished')} finished, {states.count('failed')} failed, "
        f"{states.count('open')} open."
    ]
    left = [cell for cell in cells if records[cell.name].state != "finished"]
    seconds = {cell.name: _seconds(cell, records[cell.name], speeds) for cell in left}
    known = [value for value in seconds.values() if value is not None]
    if known:
        lines.append(f"Training of {len(known)} of them: {duration(sum(known) / workers)} with {workers} at once.")
    guessed = [counted[cell.name] for cell in left if cell.name in counted]
    if guessed:
        lines.append(f"Training of {len(guessed)} of them: ~{sum(guessed) / 3600:.1f} GPU hours.")
    unknown = dict.fromkeys(cell.label for cell in left if seconds[cell.name] is None and cell.name not in counted)
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
