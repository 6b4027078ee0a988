"""Training end to end on a tiny dataset: exact resume, kills, signals, two processes, refusals."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from commands import semiseg, start
from semiseg.errors import InputError
from semiseg.runs import checkpoint
from semiseg.runs.folder import Run
from semiseg.settings.load import load_config
from semiseg.settings.run import RunConfig
from semiseg.training.session import Session
from semiseg.training.train import train
from tiny import TINY_RUN, tiny_dataset

SMALL = {
    **TINY_RUN,
    "checkpoint_every": 4,
    "log_every": 2,
}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("tiny"), cases=8, labelled=5)


def _config(data: Path, **settings: object) -> RunConfig:
    return load_config(None, {"data": data, "steps": 12, "labelled": 3, "method": "micd", **SMALL, **settings})


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "final.safetensors")


def _same(one: Path, other: Path) -> bool:
    first, second = _weights(one), _weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="session")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    return train(_config(data), tmp_path_factory.mktemp("runs") / "whole", show=False).path


def test_run_folder_is_complete(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert {
        "config.yaml",
        "plan.json",
        "split.json",
        "provenance.json",
        "log.jsonl",
        "tensorboard",
        "checkpoints",
    } <= names
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(2, 13, 2))
    assert all(line["skipped"] == 0 and line["patches_per_second"] > 0 for line in lines)
    facts = json.loads((finished / "provenance.json").read_text())
    assert facts["label_budget"] == {"training": 3, "selection": 0}
    assert facts["protocol"] == "honest"


def test_the_same_seed_gives_the_same_weights_and_another_one_does_not(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    train(_config(data), tmp_path / "again", show=False)
    assert _same(tmp_path / "again", finished)
    train(_config(data, seed=1), tmp_path / "other", show=False)
    assert not _same(tmp_path / "other", finished)


@pytest.mark.parametrize(
    "levers",
    [
        {"precision": "bf16"},
        {"speed": {"layout": "contiguous"}},
        {"speed": {"compile": "on", "losses": "off"}},
        {"speed": {"losses": "on"}},
    ],
    ids=str,
)
def test_continued_runs_are_bit_identical_with_every_lever(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, levers: dict[str, Any]
) -> None:
    """What is compiled is traced, and executed by PyTorch's own operations: a compiler would take minutes."""
    from semiseg.ingredients import fusion
    from semiseg.training import train as module

    compiler, real = torch.compile, module.train_step
    monkeypatch.setattr(torch, "compile", lambda call, **_: compiler(call, backend="eager", dynamic=False))
    monkeypatch.setattr(fusion, "_compiled", cache(lambda call: torch.compile(call)))  # forgotten after the test
    config = _config(data, method="mean_teacher", steps=7, **levers)
    whole = train(config, tmp_path / "whole", show=False)

    def interrupted(session: object, journal: object, step: int, batch: object) -> None:
        if step == 5:
            raise KeyboardInterrupt
        real(session, journal, step, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "halves", show=False)
    monkeypatch.setattr(module, "train_step", real)
    assert _same(train(config, tmp_path / "halves", show=False).path, whole.path)
    (choice,) = json.loads((whole.path / "speed.json").read_text()).values()
    wishes = levers.get("speed", {})
    assert (choice["mode"]["compile"], choice["mode"]["losses"]) == (
        "compile" in wishes,
        wishes.get("losses") == "on",
    )


def test_stopped_anywhere_and_continued_is_bit_identical(
    data: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from semiseg.training import train as module

    real, calls = module.train_step, []

    def interrupted(*args: object) -> None:
        calls.append(args)
        if len(calls) in (3, 4, 11):  # inside of a checkpoint interval, right after a resume, near the end
            raise KeyboardInterrupt
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train_step", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train(_config(data), tmp_path, show=False)
    run = train(_config(data), tmp_path, show=False)
    assert run.finished
    assert _same(tmp_path, finished)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(2, 13, 2))


def test_a_kill_before_old_checkpoints_went_leaves_no_third_one(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run") / "checkpoints"
    left = sorted(path.name for path in folder.iterdir())
    last = checkpoint.load(folder, "step_0000012")
    checkpoint.save(folder, "step_0000004", last.tensors, {**last.state, "step": 4})
    (folder / "final.json").unlink()
    train(Run(tmp_path / "run").config(), tmp_path / "run", show=False)
    assert sorted(path.name for path in folder.iterdir()) == left


def _command(config: Path, output: Path, *, launcher: tuple[str, ...] = ()) -> list[str]:
    python = launcher or (sys.executable,)
    return [*python, "-m", "semiseg.cli", "train", "--config", str(config), "--output", str(output)]


def _wait_for_step(run: Path, step: int, alive: Callable[[], bool]) -> None:
    """Until the log holds `step` or the process has ended."""
    log = run / "log.jsonl"
    while alive():
        if log.exists() and any(f'"step": {number},' in log.read_text() for number in range(step, step + 3)):
            return
        time.sleep(0.01)


@pytest.mark.slow
def test_three_kills_change_nothing(data: Path, tmp_path: Path) -> None:
    config = _config(data, steps=60, method="mean_teacher", checkpoint_every=5)
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    whole = train(config, tmp_path / "whole", show=False).path
    command = ("train", "--config", tmp_path / "config.yaml", "--output", tmp_path / "killed")
    moments = sorted(random.Random(5).sample(range(4, 50), 3))
    for moment in moments:
        process = start(*command, said=(tmp_path / "said", tmp_path / "said"))
        _wait_for_step(tmp_path / "killed", moment, process.is_alive)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not Run(tmp_path / "killed").finished
    assert semiseg(*command).returncode == 0
    assert _same(tmp_path / "killed", whole)


@pytest.mark.slow
def test_sigterm_saves_and_tells_how_to_continue(data: Path, tmp_path: Path) -> None:
    config = _config(data, steps=100_000, method="supervised")
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    process = subprocess.Popen(_command(tmp_path / "config.yaml", tmp_path / "run"), stdout=subprocess.PIPE, text=True)
    _wait_for_step(tmp_path / "run", 6, lambda: process.poll() is None)
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"Continue: semiseg train --config {tmp_path / 'run' / 'config.yaml'}" in output.replace("\n", "")
    assert any((tmp_path / "run" / "checkpoints").glob("step_*.json"))
    facts = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert facts["command"][:3] == ["semiseg", "train", "--config"]  # what a reader can type


@pytest.mark.slow
@pytest.mark.parametrize("method", ["supervised", "dhc"])
def test_two_processes_give_the_weights_of_one(data: Path, tmp_path: Path, method: str) -> None:
    config = _config(data, steps=4, method=method, optimiser={"clip": None})
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    one = train(config, tmp_path / "one", show=False).path
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        _command(tmp_path / "config.yaml", tmp_path / "two", launcher=launcher),
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    first, second = _weights(one), _weights(tmp_path / "two")
    for name, tensor in first.items():
        torch.testing.assert_close(
            second[name], tensor, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.slow
def test_two_processes_train_on_where_a_term_has_no_weight(data: Path, tmp_path: Path) -> None:
    """SS-Net without its unsupervised terms trains no projections, whose gradient all processes wait for."""
    config = _config(data, steps=4, method="ssnet", options={"weight": 0})
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    command = _command(tmp_path / "config.yaml", tmp_path / "run", launcher=launcher)
    told = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert Run(tmp_path / "run").finished


def test_filters_that_are_no_list_are_an_input_problem(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"network unet: filters: .*\(came: 8\)"):
        train(_config(data, network={"options": {"filters": 8}}), tmp_path / "run", show=False)


def test_a_folder_with_another_run_is_refused(data: Path, finished: Path) -> None:
    with pytest.raises(InputError) as caught:
        train(_config(data, seed=3, steps=20), finished, show=False)
    assert "steps: was 12, now 20" in str(caught.value)
    assert "seed: was 0, now 3" in str(caught.value)


def test_best_weights_come_from_validation_cases_of_the_budget(data: Path, tmp_path: Path) -> None:
    config = _config(data, method="supervised", labelled=2, validation=1, test=1, select="best", validate_every=5)
    run = train(config, tmp_path, show=False)
    facts = json.loads((tmp_path / "provenance.json").read_text())
    assert facts["label_budget"] == {"training": 2, "selection": 1}
    assert (run.checkpoints / "best.json").exists()
    records = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert [record["step"] for record in records if "validation" in record] == [5, 10, 12]


def test_paper_protocol_is_stamped(data: Path, tmp_path: Path) -> None:
    config = _config(data, method="supervised", labelled=2, test=2, select="best", protocol="paper", steps=2)
    train(config, tmp_path, show=False)
    facts = json.loads((tmp_path / "provenance.json").read_text())
    assert facts["protocol"] == "paper (test-selected)"
    assert facts["label_budget"]["selection"] == 2


def test_bf16_trains(data: Path, tmp_path: Path) -> None:
    run = train(_config(data, precision="bf16", steps=3), tmp_path, show=False)
    assert all(tensor.isfinite().all() for tensor in _weights(run.path).values())


def test_several_updates_per_batch_continue_bit_identical(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop between two updates of one batch falls back to the checkpoint before that batch."""
    from semiseg.training import train as module

    config = _config(data, method="lefed", steps=6, checkpoint_every=2, log_every=1)
    train(config, tmp_path / "whole", show=False)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 7))
    real, calls = module.guarded_step, []

    def interrupted(*args: object) -> torch.Tensor:
        calls.append(args)
        if len(calls) in (8, 12):  # second update of the third batch; then, from there on anew, of the fourth
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "guarded_step", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "stopped", show=False)
    assert train(config, tmp_path / "stopped", show=False).finished
    assert len(calls) == 12 + 3 * 4
    assert _same(tmp_path / "stopped", tmp_path / "whole")


def test_memories_of_scans_continue_bit_identical(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from semiseg.training import train as module

    config = _config(data, method="temporal_ensembling", steps=8, checkpoint_every=3)
    train(config, tmp_path / "whole", show=False)
    real, calls = module.train_step, []

    def interrupted(*args: object) -> None:
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "stopped", show=False)
    train(config, tmp_path / "stopped", show=False)
    assert any("memory.mean_case" in name for name in _weights(tmp_path / "whole"))
    assert _same(tmp_path / "stopped", tmp_path / "whole")


def test_slow_steps_lose_minutes_at_most(data, tmp_path, monkeypatch):
    """Checkpoints are written by the clock too, where the next one by steps is hours away."""
    saved = []
    monkeypatch.setattr(Session, "save", lambda session: saved.append(session.progress.step))
    train(
        _config(data, steps=6, checkpoint_every=100, checkpoint_minutes=1e-9, log_every=2), tmp_path / "run", show=False
    )
    assert saved == [2, 4, 6]
    saved.clear()
    train(_config(data, steps=6, checkpoint_every=100, log_every=2), tmp_path / "other", show=False)
    assert saved == [6]


def test_a_log_for_people_says_what_the_terminal_said(data, tmp_path):
    train(_config(data, steps=4, log_every=2), tmp_path / "run", show=False)
    text = (tmp_path / "run" / "log.txt").read_text()
    assert "GiB of memory" in text
    assert re.search(r"step 4: .*total \d", text)
    assert "observed" not in text
