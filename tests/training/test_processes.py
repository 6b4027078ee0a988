"""What processes that train together keep to themselves, and how long they wait for each other."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch
import torch.multiprocessing as mp

from semiseg.settings.load import load_config
from semiseg.training.launch import data_parallel
from two_memories import worker


def test_every_process_keeps_the_memory_of_its_own_voxels(tmp_path: Path) -> None:
    mp.spawn(worker, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert any(memory.any() for memory, _ in second)
    for (of_one, _), (of_other, after) in zip(first, second, strict=True):
        assert torch.equal(of_other, after), "nothing replaces it when the step ends"
        assert not of_other.any() or not torch.equal(of_one, of_other)


def test_processes_wait_for_the_preparation_of_large_data(tmp_path: Path) -> None:
    """NCCL ends all of them after the time that it was given, by default half an hour."""
    strategy = data_parallel(load_config(None, {"data": tmp_path}))
    assert strategy._timeout is not None
    assert strategy._timeout >= timedelta(days=1)
