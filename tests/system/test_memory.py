"""Freed memory is used again instead of being cleared by the kernel once more."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from semiseg.cli import app

CODE = """
import resource, sys
import numpy as np
from semiseg.system.memory import reuse_freed_memory
if sys.argv[1] == "reuse" and not reuse_freed_memory():
    sys.exit(3)
np.ones(5 << 20)  # the heap grows once
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(5 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("this C library has no such settings")
    return int(done.stdout)


def test_pages_are_not_asked_for_again() -> None:
    assert _faults("reuse") < _faults("default") / 10


@pytest.mark.parametrize("command", ["train", "predict", "bench"])
def test_commands_that_compute_ask_for_it(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("semiseg.system.memory.reuse_freed_memory", lambda: asked.append(command))
    CliRunner().invoke(app, [command, "nowhere"])
    assert asked == [command]
