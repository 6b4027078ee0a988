"""Largest connected components of pseudo-labels, found on the host while the device goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from semiseg.inference.components import Neighbours, largest_component


def keep_largest(labels: Tensor, neighbours: Neighbours = "all") -> Callable[[], Tensor]:
    """Start to keep only the largest component of every foreground class in every sample of `labels` `[B, *S]`.

    Voxels that share a corner are connected unless `neighbours` says otherwise; of equal components the first in scan
    order stays; what is removed becomes background. Gives a function that waits for the result, int64 on the device of
    `labels`. Threads do the work, so a GPU can be given other work between the two calls; only the one copy of the
    labels is waited for.
    """
    if labels.numel() == 0:
        return lambda: labels.long()
    host, copied = _to_host(labels)
    samples = host.numpy()

    def filter_one(index: int) -> None:
        copied()
        sample: NDArray[Any] = samples[index]
        sample[...] = largest_component(sample, neighbours)

    pool = ThreadPoolExecutor(min(len(samples), os.cpu_count() or 1))
    waiting = [pool.submit(filter_one, index) for index in range(len(samples))]
    pool.shutdown(wait=False)  # what was submitted is still done

    def result() -> Tensor:
        for each in waiting:
            each.result()
        return host.to(labels.device, non_blocking=True).long()

    return result


def _to_host(labels: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """The labels in host memory, and what waits until they are there."""
    if not labels.is_cuda:
        return labels.detach().to("cpu", torch.int16, copy=True).contiguous(), lambda: None
    # Page-locked memory lets both copies run beside the other work of the device.
    host = torch.empty(labels.shape, dtype=torch.int16, pin_memory=True)
    host.copy_(labels.detach().to(torch.int16), non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return host, event.synchronize
