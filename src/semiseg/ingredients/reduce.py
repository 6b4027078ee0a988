"""Sums over a batch that may be split over processes."""

from __future__ import annotations

from typing import Any

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


def batch_sum(value: Tensor) -> Tensor:
    """Sum of `value` over all processes; `value` itself when there is only one.

    A loss that is no mean of per-voxel terms (a Dice ratio, a weighted mean) has to see the sums of the whole batch.
    Its gradient is exact with data-parallel training: every process holds the same loss of the summed value, the
    backward pass adds their equal upstream gradients (a factor of the number of processes), and averaging the
    parameter gradients over the processes takes that factor away again. Every process must call it equally often.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    summed: Tensor = _AllSum.apply(value)  # type: ignore[no-untyped-call]
    return summed
