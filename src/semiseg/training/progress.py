"""The progress of a training in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text


class Bar:
    """Method, bar, steps and time left in one line that keeps its width; the newest losses in a line below."""

    def __init__(self, title: str, steps: int, start: int, *, shown: bool, console: Console | None = None) -> None:
        self._progress = _Lines(console or Console(quiet=not shown), steps)
        self._task: TaskID = self._progress.add_task(title, total=steps, completed=start)
        self._progress.start()

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._progress.console.print(text, highlight=False)

    def advance(self) -> None:
        """One step further."""
        self._progress.advance(self._task)

    def write(self, record: Mapping[str, Any]) -> None:
        """Show the newest losses, their sum first, and the speed."""
        if loss := dict(record.get("loss", {})):
            terms = {"total": loss.pop("total", None), **loss}
            told = [f"{name} {value:.3f}" for name, value in terms.items() if value is not None]
            self._progress.below = "  ".join([f"{record.get('patches_per_second', 0):.1f} patches/s", *told])

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._progress.stop()


class _Lines(Progress):
    below = ""

    def __init__(self, console: Console, steps: int) -> None:
        def kept(width: int) -> Column:
            return Column(no_wrap=True, min_width=width)

        super().__init__(
            TextColumn("{task.description}", table_column=kept(4)),
            BarColumn(bar_width=24, table_column=kept(8)),
            TextColumn("{task.completed}/{task.total} steps", table_column=kept(len(f"{steps}/{steps} steps"))),
            TimeRemainingColumn(table_column=kept(7)),
            TextColumn("left", table_column=kept(4)),
            console=console,
            disable=console.quiet,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.below, style="dim", no_wrap=True, overflow="ellipsis")
