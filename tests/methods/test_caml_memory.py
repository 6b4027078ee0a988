"""The memory of CAML with a batch split over two processes."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.multiprocessing as mp

from two_image_memories import remembered, worker


def test_two_processes_remember_what_one_does(tmp_path: Path) -> None:
    mp.spawn(worker, args=(str(tmp_path),), nprocs=2)
    tensors, names = remembered(slice(None))
    assert names["names"] == ["w", "x", "y"]
    assert tensors["kept"].tolist() == [[2, 0]] * 3
    for rank in range(2):
        found, also = torch.load(tmp_path / f"{rank}.pt")
        assert also == names
        for name, value in tensors.items():
            assert torch.equal(found[name], value), name
