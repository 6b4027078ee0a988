"""Benchmarks on a GPU: both sides and the peaks compute alike, and what is fed is on the device."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from fake_cuda import CUDA, fake_cuda
from scripts import load_script


@pytest.mark.parametrize("name", ["train", "feed", "windows"])
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_measured(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", [name, "--device", "gpu"])
    with pytest.raises(SystemExit) as ended:
        load_script(f"benchmarks/{name}.py").main()
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert "accelerator gpu: this machine has none" in told.err
    assert not told.out


@pytest.mark.parametrize(("asked", "tf32"), [("fp32", False), ("bf16", False), ("tf32", True)])
def test_float32_is_the_same_on_both_sides(asked: str, tf32: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("devices.set_up_device", lambda device, precision: seen.append((device.type, precision)))
    devices = sys.modules["devices"]
    float32 = devices.set_up(CUDA, asked)
    assert devices.set_up(CUDA, float32) == float32  # the plain side, in its own process
    assert seen == 2 * [("cuda", "tf32" if tf32 else "fp32")]


def test_the_plain_step_is_set_up_for_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    train, seen = load_script("benchmarks/train.py"), []
    monkeypatch.setattr(train, "set_up", lambda device, float32: seen.append((device, float32)))
    monkeypatch.setattr(train, "peak_memory", lambda call, device: 1.0)
    monkeypatch.setattr(train, "METHODS", {"none": _Method})
    cpu = torch.device("cpu")
    call = train.plain_steps("none", [(torch.zeros(1), torch.zeros(1))], cpu, torch.get_num_threads(), "tf32")
    assert call() == 1.0
    assert seen == [(cpu, "tf32")]


class _Method:
    nets = ()

    def step(self, images: object, labels: object) -> float:
        return 0.0


def test_every_way_of_feeding_ends_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = load_script("benchmarks/feed.py")
    volumes = feed.Volumes(tmp_path, 2, (12, 12, 12))
    with fake_cuda() as mode:
        mode.allow_non_fake_inputs = True  # scans come from files
        calls = feed.ways(volumes, (8, 8, 8), 2, CUDA)
        for name in ("gzip HDF5, whole volume", "memory maps, opened every time"):
            found = calls[name]()
            assert len(found) == 4, "images and labels"
            assert all(tensor.is_cuda for tensor in found), name


def test_rows_say_what_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    train = load_script("benchmarks/train.py")
    mode = train.ExecutionMode("contiguous", compile=True)
    monkeypatch.setattr(train, "uncompiled", lambda: 0)
    assert train.executed(mode) == "contiguous, compiled"
    monkeypatch.setattr(train, "uncompiled", lambda: 2)
    assert train.executed(mode) == "contiguous, compiled, but 2 pieces of code are not"
    assert train.executed(train.ExecutionMode("contiguous")) == "contiguous, not compiled"
