"""The short version of `benchmarks/faults.py`: a few kills of every command in the suite."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import ROOT


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks children and looks into /proc")
def test_killed_commands_end_with_the_files_of_undisturbed_ones(tmp_path: Path) -> None:
    script, answer = ROOT / "benchmarks" / "faults.py", tmp_path / "figures.json"
    command = [sys.executable, script, "--quick", "--json", answer, "--folder", tmp_path / "work"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(answer.read_text())
    assert figures["kills"] == 8
    assert figures["commands"].keys() == {"prepare", "train (micd)", "predict", "evaluate", "compare"}
    assert all(row["identical"] == row["results"] > 0 for row in figures["commands"].values())
    assert not (tmp_path / "work" / "trial.said").read_text().count("Traceback")
