"""Training on full and read-only disks, with files that vanish, checkpoints that are not its own, and a mad clock."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import semiseg
from disks import disk, resize
from semiseg.batches import feed
from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from semiseg.preparing.prepare import prepare
from semiseg.runs import checkpoint
from semiseg.runs.logging import JsonLines, read_log
from semiseg.settings.load import load_config
from semiseg.settings.run import RunConfig
from semiseg.training import train as engine
from semiseg.training.train import train
from tiny import TINY_RUN, tiny_dataset

SMALL = {
    **TINY_RUN,
    "steps": 6,
    "checkpoint_every": 2,
    "log_every": 1,
    "labelled": 3,
    "test": 2,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("tiny"), cases=8, labelled=6)


def _config(data: Path, **settings: object) -> RunConfig:
    return load_config(None, {"data": data, "method": "mean_teacher", **SMALL, **settings})


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    return train(_config(data), tmp_path_factory.mktemp("runs") / "whole", show=False).path


def _same(one: Path, other: Path) -> bool:
    first, second = (load_file(run / "checkpoints" / "final.safetensors") for run in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _before_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], object]) -> None:
    """Do something once, right before a step of the training."""
    real = engine.train_step
    done: list[int] = []

    def step_with(session: object, journal: object, at: int, batch: object) -> None:
        if at == step and not done:
            done.append(at)
            action()
        real(session, journal, at, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "train_step", step_with)


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(data: Path, finished: Path, tmp_path: Path) -> None:
    """There is space for one checkpoint and no second one."""
    one = (finished / "checkpoints" / "step_0000006.safetensors").stat().st_size
    with disk(tmp_path / "disk", f"size={one + one // 2 + (64 << 10)}") as small:
        with pytest.raises(InputError, match=r"cannot be written .*free some space"):
            train(_config(data), small / "run", show=False)
        found = checkpoint.latest(small / "run" / "checkpoints")
        assert found is not None
        assert not list(small.rglob("*.part"))
        resize(small, "size=100m")
        assert train(_config(data), small / "run", show=False).finished
        assert _same(small / "run", finished)


def test_a_log_on_a_full_disk_is_told(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "size=64k") as small:
        log = JsonLines(small / "log.jsonl", 0)
        with pytest.raises(InputError, match=r"log\.jsonl: cannot be written .*free some space"):
            _write_on(log)
        log.close()
        last = read_log(small / "log.jsonl")[-1]["step"]
        assert [line["step"] for line in read_log(small / "log.jsonl")] == list(range(1, last + 1))


def _write_on(log: JsonLines) -> None:
    for step in range(1, 10_000):
        log.write({"step": step})


def test_nothing_is_written_to_a_read_only_folder(data: Path, finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    semiseg.predict(run, accelerator="cpu")
    grid = {"methods": ["supervised"], "labelled": [2], "seeds": 1, "test": 2, "steps": 2, "settings": {}}
    with disk(tmp_path / "disk", "ro") as folder:
        for call in (
            lambda: train(_config(data), folder / "run", show=False),
            lambda: prepare(open_dataset(data), folder / "prepared", workers=1),
            lambda: semiseg.predict(run, data / "imagesTr", folder / "out", accelerator="cpu"),
            lambda: semiseg.evaluate(run, output=folder / "scores"),
            lambda: semiseg.compare(data, folder / "grid", **grid),
            lambda: semiseg.report(run, output=folder / "report.html"),
        ):
            with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\)"):
                call()


def test_a_store_file_that_vanishes_is_told_and_made_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny_dataset(tmp_path / "data", cases=8, labelled=6)
    images = data / "prepared" / "store"
    with monkeypatch.context() as patch:
        patch.setattr(feed, "KEPT_OPEN", 0)  # as where the scans are too many to be kept open
        _before_step(patch, 2, lambda: [path.unlink() for path in images.glob("*.image.npy")])
        with pytest.raises(InputError, match=r"image\.npy: cannot be read any more .*semiseg prepare"):
            train(_config(data), tmp_path / "run", show=False)
    assert train(_config(data), tmp_path / "run", show=False).finished
    assert _same(tmp_path / "run", finished)


def test_checkpoints_that_vanish_cost_their_steps(
    data: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        _before_step(patch, 5, lambda: shutil.rmtree(run / "checkpoints"))
        train(_config(data), run, show=False)
    assert _same(run, finished), "in the middle of the run"
    (run / "checkpoints" / "final.json").unlink()
    for record in (run / "checkpoints").glob("step_*"):
        record.unlink()
    assert train(_config(data), run, show=False).finished
    assert _same(run, finished), "before it goes on"


def test_a_clock_that_jumps_changes_nothing(
    data: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = time.time, [0]

    def mad() -> float:
        calls[0] += 1
        return real() + (1e9 if calls[0] % 2 else -1e9)

    run = tmp_path / "run"
    monkeypatch.setattr(time, "time", mad)
    for stop in (3, 5):
        _before_step(monkeypatch, stop, _interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(_config(data), run, show=False)
        for index, path in enumerate(sorted(run.rglob("*"))):  # the newest files look oldest
            os.utime(path, (4e9 - index, 4e9 - index))
        found = checkpoint.latest(run / "checkpoints")
        assert found is not None
        assert found.step == stop - 1
    assert train(_config(data), run, show=False).finished
    assert _same(run, finished)
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert calls[0] > 0


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_a_checkpoint_of_another_method_or_network_is_refused(data: Path, finished: Path, tmp_path: Path) -> None:
    other = train(_config(data, method="cps"), tmp_path / "cps", show=False).path
    wider = train(_config(data, network={"options": {"filters": [6, 8]}}), tmp_path / "wider", show=False).path
    for source, words in ((other, "expected a checkpoint of method mean_teacher, came one of cps"), (wider, "not fit")):
        run = shutil.copytree(finished, tmp_path / f"run_{source.name}")
        shutil.rmtree(run / "checkpoints")
        shutil.copytree(source / "checkpoints", run / "checkpoints")
        with pytest.raises(InputError, match=words):
            semiseg.predict(run, accelerator="cpu")
        (run / "checkpoints" / "final.json").unlink()
        with pytest.raises(InputError, match=words):
            train(_config(data), run, show=False)


def test_another_number_of_processes_goes_on_and_is_told(
    data: Path, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The method draws nothing per process, so the weights stay the same here."""
    config = _config(data, method="supervised")
    whole = train(config, tmp_path / "whole", show=False).path
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "checkpoints" / "final.json").unlink()
    (run / "checkpoints" / "step_0000006.json").unlink()
    found = checkpoint.load(run / "checkpoints", "step_0000004")
    sums = ("sha256", "state_sha256")
    state = {name: value for name, value in found.state.items() if name not in sums} | {"processes": 2}
    checkpoint.save(run / "checkpoints", "step_0000004", found.tensors, state)
    with caplog.at_level(logging.WARNING):
        assert train(config, run, show=False).finished
    assert "1 process(es) go on where 2 trained up to step 4" in caplog.text
    assert _same(run, whole)


def test_a_kill_while_the_log_is_cut_back_loses_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f'{{"step": {step}}}\n' for step in range(1, 6)))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: _interrupt())
        with pytest.raises(KeyboardInterrupt):
            JsonLines(path, 3)
    assert [line["step"] for line in read_log(path)] == [1, 2, 3, 4, 5]
    JsonLines(path, 3).close()
    assert [line["step"] for line in read_log(path)] == [1, 2, 3]
