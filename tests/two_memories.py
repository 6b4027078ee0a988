"""SS-Net trained by two processes; what the memory of each of them holds is written to a file."""

from __future__ import annotations

import gc
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from semiseg.batches.batch import Batch
from semiseg.methods.base import Clock, Method, Task, entry
from semiseg.networks import build_network
from semiseg.settings.load import load_config
from semiseg.training.launch import data_parallel
from semiseg.training.session import Stepper

STEPS = 3


def ssnet() -> Method:
    torch.manual_seed(0)
    build = partial(build_network, "unet", channels=1, classes=3, spatial_dims=2, filters=(4, 6), normalisation="batch")
    options = {"ramp": "none", "memory": 4}
    return entry("ssnet").build(options, Task(3, 1, 2, (100, 30, 10)), build).train()


def batch_of(rank: int, step: int) -> Batch:
    """Images whose brightness tells the class, so that some voxels are right from the first step on."""
    generator = torch.Generator().manual_seed(10 * rank + step)
    labels = torch.randint(3, (4, 16, 16), generator=generator)
    return Batch(labels.unsqueeze(1) + 0.1 * torch.randn(4, 1, 16, 16, generator=generator), labels[:2])


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    start = f"file://{folder}/start"
    dist.init_process_group("gloo", init_method=start, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    method = ssnet()
    strategy = data_parallel(load_config(None, {"data": folder, "method": "ssnet"}))
    stepper = DistributedDataParallel(Stepper(method), **strategy._ddp_kwargs)
    kept = []
    for step in range(STEPS):
        torch.manual_seed(step)
        losses = method.step(batch_of(rank, step), Clock(step, 100, 0, 10))
        written = []
        while (loss := stepper(losses)) is not None:
            written.append(method.memory.vectors.clone())
            loss[1].backward()
            method.zero_grad()
        kept.append((written[-1], method.memory.vectors.clone()))
    torch.save(kept, Path(folder) / f"{rank}.pt")
    del stepper  # the last to let go of the processes' connection would wait for a thread that waits for it
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()
