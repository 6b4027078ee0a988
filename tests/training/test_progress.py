"""What a person sees while a training runs, at the widths that terminals have."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from semiseg.training.progress import Bar

LOSSES = {"supervised": 1.91, "cfc": 0.316, "mcpc": 2.877, "cmd": 1.963, "total": 1.943}


def screen(width: int, title: str, steps: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    bar = Bar(title, steps, 0, shown=True, console=console)
    for _ in range(steps // 3):
        bar.advance()
    bar.write({"loss": LOSSES, "patches_per_second": 2.3})
    bar.close()
    return console.file.getvalue().replace("\x1b[2K", "").split("\n")


@pytest.mark.parametrize("width", [80, 110])
@pytest.mark.parametrize("title", ["micd", "temporal_ensembling"])
@pytest.mark.parametrize("steps", [9, 30000])
def test_bar_steps_and_time_keep_their_width(width: int, title: str, steps: int) -> None:
    lines = screen(width, title, steps)
    first = next(line for line in reversed(lines) if title[:4] in line)
    assert f"{steps // 3}/{steps} steps" in first
    assert "━" * 8 in first
    assert first.rstrip().endswith("left")
    assert ":" in first
    assert all(len(line) <= width + 10 for line in lines)


def test_the_sum_of_the_losses_comes_first_and_what_has_no_room_is_cut() -> None:
    below = next(line for line in reversed(screen(60, "micd", 9)) if "patches/s" in line)
    assert "total 1.943" in below
    assert below.rstrip().endswith("…")


def test_nothing_is_shown_where_nothing_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar("micd", 3, 0, shown=False)
    bar.note("a note")
    bar.advance()
    bar.close()
    assert capsys.readouterr().out == ""
