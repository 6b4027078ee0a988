"""Sums over a batch that may be split over processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function


class _AllSum(Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def processes() -> int:
    """Number of processes that share a batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def batch_cat(value: Tensor) -> Tensor:
    """Values of all processes, of equal shapes, one after the other along the first axis; no gradient."""
    if processes() == 1:
        return value
    value = value.detach().contiguous()
    parts = [torch.empty_like(value) for _ in range(processes())]
    dist.all_gather(parts, value)
    return torch.cat(parts)


def batch_sum(value: Tensor) -> Tensor:
    """Sum of `value` over all processes; `value` itself when there is only one.

    A loss that is no mean of per-voxel terms (a Dice ratio, a weighted mean) has to see the sums of the whole batch.
    Its gradient is exact with data-parallel training: every process holds the same loss of the summed value, the
    backward pass adds their equal upstream gradients (a factor of the number of processes), and averaging the
    parameter gradients over the processes takes that factor away again. Every process must call it equally often.
    """
    if processes() == 1:
        return value
    summed: Tensor = _AllSum.apply(value)  # type: ignore[no-untyped-call]
    return summed
