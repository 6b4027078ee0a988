"""`semiseg train --watch`: the curves of a training in the terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from semiseg.runs.logging import flat

BARS = "▁▂▃▄▅▆▇█"

KEPT = 2000
"""Most values of a curve that are kept; then every second one is dropped."""


class Watch:
    """Loss terms, validation and observations as sparklines, with speed and time left; a `Display`.

    On a screen that is no terminal nothing moves: the last state is printed at the end.
    """

    def __init__(self, title: str, steps: int, start: int, *, shown: bool, console: Console | None = None) -> None:
        self._title, self._steps, self._step, self._start = title, steps, start, start
        self._began = time.monotonic()
        self._curves: dict[str, list[float]] = {}
        self._notes: list[str] = []
        self._console = console or Console(quiet=not shown)
        self._live = Live(get_renderable=self.render, console=self._console, refresh_per_second=2)
        self._live.start()

    def note(self, text: str) -> None:
        """A line below the curves."""
        self._notes.append(text)

    def advance(self) -> None:
        """One step further."""
        self._step += 1

    def write(self, record: Mapping[str, Any]) -> None:
        """Add the numbers of a record to their curves."""
        for name, value in flat(record):
            curve = self._curves.setdefault(name, [])
            curve.append(value)
            if len(curve) > KEPT:
                del curve[::2]

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._live.stop()

    def render(self) -> RenderableType:
        """What the terminal shows now."""
        head = Table.grid(padding=(0, 1))
        head.add_row(
            Text(self._title, style="bold"),
            ProgressBar(total=self._steps, completed=self._step, width=24),
            f"{self._step}/{self._steps}",
            self._time_left(),
        )
        body = Table.grid(padding=(0, 2))
        width = max(min(self._console.width - 46, 60), 8)
        for name, curve in sorted(self._curves.items(), key=lambda item: _rank(item[0])):
            body.add_row(Text(name), Text(sparkline(curve, width), no_wrap=True), f"{curve[-1]:.4g}", _range(curve))
        return Group(head, body, *(Text(note) for note in self._notes[-3:]))

    def _time_left(self) -> str:
        done = self._step - self._start
        if not done:
            return "time left: ?"
        seconds = round((time.monotonic() - self._began) / done * (self._steps - self._step))
        return f"time left: {seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _rank(name: str) -> int:
    """Losses first, then validation, then speed and the rest; each group as it was logged, classes by their value."""
    groups = ("loss/total", "loss/", "validation/", "patches_per_second", "lr")
    return next((index for index, group in enumerate(groups) if name.startswith(group)), len(groups))


def _range(curve: Sequence[float]) -> str:
    known = [value for value in curve if math.isfinite(value)]
    return f"{min(known):.4g} to {max(known):.4g}" if known else ""


def sparkline(values: Sequence[float], width: int) -> str:
    """A curve as at most `width` bars between its smallest and its largest value; gaps where it is not finite."""
    pieces = [values[len(values) * at // width : len(values) * (at + 1) // width] for at in range(width)]
    means = [sum(piece) / len(piece) for piece in (pieces if len(values) > width else [[value] for value in values])]
    known = [mean for mean in means if math.isfinite(mean)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    unit = (high - low) / (len(BARS) - 1) or 1.0
    return "".join(BARS[round((mean - low) / unit)] if math.isfinite(mean) else " " for mean in means)
