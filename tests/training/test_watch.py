"""The live view: curves have the shape of their values, and nothing breaks where there is no terminal."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from rich.console import Console

import semiseg
from semiseg.training.watch import BARS, KEPT, Watch, sparkline
from tiny import tiny_dataset


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 20) == BARS
    assert sparkline([1, math.nan, 2], 20) == "▁ █"
    assert sparkline([3, 3, 3], 20) == "▁▁▁"
    assert sparkline([], 20) == ""
    assert sparkline([math.nan], 20) == " "
    assert sparkline(list(range(1000)), 8) == BARS


def test_it_shows_terms_validation_speed_and_time_left() -> None:
    file = io.StringIO()
    watch = Watch("micd", 10, 2, shown=True, console=Console(file=file, width=100))
    watch.note("a note")
    for step in (4, 6):
        watch.advance()
        watch.write({"step": step, "loss": {"cfc": 0.25, "total": 1.0 / step}, "patches_per_second": 7.5})
    watch.write({"step": 6, "validation": {"dice": 0.5, "per_class": {"liver": None}}})
    watch.close()
    shown = file.getvalue()
    lines = [line.split()[0] for line in shown.splitlines() if line.strip()]
    assert lines == ["micd", "loss/total", "loss/cfc", "validation/dice", "patches_per_second", "a"]
    for expected in ("4/10", "█▁", "0.1667 to 0.25", "7.5", "time left: 0:00:00"):
        assert expected in shown


def test_classes_stand_in_the_order_of_their_values() -> None:
    file = io.StringIO()
    watch = Watch("dhc", 10, 0, shown=True, console=Console(file=file, width=100, height=40))
    watch.write({"step": 1, "observed": {"weight": [1.0] * 12}, "loss": {"total": 1.0}})
    watch.close()
    names = [line.split()[0] for line in file.getvalue().splitlines() if "/" in line.split()[0]]
    assert names == ["loss/total", *(f"observed/weight/{value}" for value in range(12))]


def test_long_runs_keep_a_bounded_curve() -> None:
    watch = Watch("x", 10, 0, shown=False)
    for step in range(3 * KEPT):
        watch.write({"step": step, "lr": float(step)})
    watch.close()
    assert len(watch._curves["lr"]) <= KEPT


@pytest.mark.slow
def test_training_with_watch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = {"network": {"options": {"filters": [4, 8]}}, "batch": {"patch": [16, 16, 16]}, "accelerator": "cpu"}
    run = semiseg.train(tiny_dataset(tmp_path / "d"), tmp_path / "r", method="supervised", steps=2, watch=True, **small)
    assert run.finished
    shown = capsys.readouterr().out
    assert "loss/total" in shown
    assert "2/2" in shown
