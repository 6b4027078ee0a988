"""What a run is said to take in memory, before it starts and when memory ran out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import semiseg
from semiseg.engine import train as module
from semiseg.errors import InputError
from tiny import tiny_dataset


def _train(root: Path, method: str, **settings: object) -> None:
    network = {"options": {"filters": [4, 8]}}
    semiseg.train(
        root / "data", root / method, method=method, labelled=2, steps=1, accelerator="cpu", network=network, **settings
    )


def _told(text: str) -> float:
    found = re.search(r"about ([\d.e-]+) GiB", text)
    assert found is not None
    return float(found[1])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny_dataset(tmp_path / "data", cases=4, labelled=2)
    return tmp_path


def test_start_tells_the_memory_of_a_step(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _train(root, "supervised", show=True)
    one = _told(capsys.readouterr().out)
    _train(root, "cps", show=True)
    two = _told(capsys.readouterr().out)
    assert two > 2 * one > 0  # two networks, and the unlabelled patches


def test_out_of_memory_tells_what_to_change(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(module, "train_step", refuse)
    with pytest.raises(InputError) as caught:
        _train(root, "mean_teacher", batch={"labelled": 1, "unlabelled": 3, "patch": [16, 8, 8]})
    (problem,) = caught.value.problems
    assert "1 labelled + 3 unlabelled patches of 16 x 8 x 8 voxels" in problem
    assert _told(problem) > 0
    assert "batch.patch=[8, 4, 4]" in problem
