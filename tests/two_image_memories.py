"""The memory of CAML with a batch split over two processes; what each of them holds is written to a file."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from semiseg.methods.caml.memory import ImageMemory


def remembered(share: slice) -> tuple[dict[str, Tensor], dict[str, object]]:
    """State after two batches of two images, of which this process has a share."""
    memory = ImageMemory(3, 2, 4, 5)
    for names in (("w", "x"), ("x", "y")):
        masks = torch.zeros(2, 2, 3, dtype=torch.bool)
        masks[:, 0, :2] = True  # no more than fit, so that which of them are chosen is no chance
        features = torch.stack([torch.full((3, 5), 1.0 + ord(name)) for name in names])
        at, valid = memory.choose(masks[share])
        rows = features[share].unsqueeze(1).expand(-1, 2, -1, -1).take_along_dim(at.unsqueeze(3), 2)
        memory.replace(names[share], rows, valid, masks[share].sum(2))
    return memory.state_dict(), memory.extra_state()


def worker(rank: int, folder: str) -> None:
    start = f"file://{folder}/start"
    dist.init_process_group("gloo", init_method=start, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    torch.save(remembered(slice(rank, rank + 1)), Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
