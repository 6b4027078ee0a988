"""Trackers get the records of the log; they are refused early, forgiven later, and continue a continued run."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from semiseg.errors import InputError
from semiseg.training import trackers
from semiseg.training.trackers import Forgiving, check_trackers
from tiny import tiny_dataset


def train(data: Path, run: Path, tracker: str, *more: str) -> None:
    """In a process of its own, as trackers keep threads and change warnings."""
    settings = ["--set=network.options={filters: [4, 8]}", "--set=batch.patch=[16, 16, 16]", "--set=accelerator=cpu"]
    settings += ["--set=log_every=1", "--set=checkpoint_every=1", "--steps=4", "--method=micd", "--labelled=3"]
    command = [sys.executable, "-m", "semiseg.cli", "train", str(data), "--output", str(run), *settings]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "WANDB_"))}
    answer = subprocess.run(
        [*command, "--track", tracker, *more],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
        env=clean,
    )
    assert answer.returncode == 0, answer.stderr
    assert "gets no more records" not in answer.stdout


def back_to(run: Path, step: int) -> None:
    """As if the run had been killed: its end and the checkpoints after `step` are gone, the log is longer."""
    checkpoints = run / "checkpoints"
    for file in checkpoints.glob("final*"):
        file.unlink()
    for file in checkpoints.glob("step_*"):
        if int("".join(filter(str.isdigit, file.name.split(".")[0]))) > step:
            file.unlink()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not installed")
def test_mlflow_in_its_sqlite_file(tmp_path: Path) -> None:
    data, run = tiny_dataset(tmp_path / "my data"), tmp_path / "runs" / "a"
    train(data, run, "mlflow")
    back_to(run, 3)
    train(data, run, "mlflow")
    base = sqlite3.connect(run.parent / "mlflow.db")
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for name in logged[0]["loss"]:
        found = base.execute(
            "select step, value from metrics where key = ? order by step", (f"loss/{name}",)
        ).fetchall()
        assert [step for step, _ in found] == [1, 2, 3, 4]
        assert [value for _, value in found] == pytest.approx([line["loss"][name] for line in logged])
    assert base.execute("select name, status from runs").fetchall() == [("a", "FINISHED")]
    assert base.execute("select name from experiments where name = 'my data'").fetchall()
    params = dict(base.execute("select key, value from params").fetchall())
    assert params["method"] == "micd"
    assert params["optimiser.name"] == "adamw"
    base.close()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("wandb") is None, reason="Weights & Biases is not installed")
def test_wandb_offline(tmp_path: Path) -> None:
    data, run = tiny_dataset(tmp_path / "data"), tmp_path / "run"
    train(data, run, "wandb")
    back_to(run, 3)
    train(data, run, "wandb")
    written = sorted((run / "wandb").glob("offline-run-*/run-*.wandb"))
    number = json.loads((run / "trackers.json").read_text())["wandb"]
    assert {file.name for file in written} == {f"run-{number}.wandb"}
    assert b"loss/total" in written[0].read_bytes()


def test_unknown_and_missing_trackers_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(InputError) as error:
        check_trackers(["mlfow", "wandb"])
    assert "did you mean 'mlflow'?" in error.value.problems[0]
    assert "pip install 'semiseg[wandb]'" in error.value.problems[1]
    check_trackers([])


def test_names_for_mlflow() -> None:
    assert trackers._mlflow_name("validation/per_class/<b>löwe") == "validation/per_class/_b_l_we"
    assert len(trackers._mlflow_name("x" * 400)) == 250


class Broken:
    def __init__(self) -> None:
        self.calls = 0

    def write(self, record: Mapping[str, Any]) -> None:
        self.calls += 1
        raise ConnectionError("server gone")

    def close(self) -> None:
        raise ConnectionError("server gone")


def test_a_failing_tracker_is_noted_once_and_left_alone() -> None:
    notes: list[str] = []
    broken = Broken()
    logger = Forgiving(broken, "mlflow", notes.append)
    for step in range(3):
        logger.write({"step": step})
    logger.close()
    assert broken.calls == 1
    assert notes == ["mlflow failed and gets no more records (server gone); log.jsonl is complete"]


def test_a_tracker_that_cannot_be_opened_is_an_input_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Broken:
        raise ConnectionError("no route")

    monkeypatch.setattr(trackers, "TRACKERS", {"mlflow": refuse})
    with pytest.raises(InputError, match=r"--track mlflow: cannot be opened \(ConnectionError: no route\)"):
        trackers.open_tracker("mlflow", None, None, 0)  # type: ignore[arg-type]
