"""Images with hidden blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Fill = Literal["zero", "mean"]


def block_grid(shape: Sequence[int], block: Sequence[int]) -> tuple[int, ...]:
    """Number of blocks per axis; the last one may be cut."""
    return tuple(-(-side // unit) for side, unit in zip(shape, block, strict=True))


def block_mask(
    uniform: Tensor, ratio: float, block: Sequence[int], shape: Sequence[int], *, exact: bool = False
) -> Tensor:
    """Which voxels stay visible, bool `[B, 1, *shape]` (MICD, arXiv:2503.14013, Eq. 2).

    Args:
        uniform: `[B, *block_grid(shape, block)]`, a draw from [0, 1) per block.
        ratio: share of the blocks to hide: those whose draw is below it.
        block: side of a block per axis, in voxels.
        exact: hide exactly round(ratio * number of blocks), those with the smallest draws.
    """
    if exact:
        flat = uniform.flatten(1)
        rank = flat.argsort(1).argsort(1).view_as(uniform)
        keep = rank >= round(ratio * flat.shape[1])
    else:
        keep = uniform >= ratio
    for axis, (unit, side) in enumerate(zip(block, shape, strict=True), start=1):
        keep = keep.repeat_interleave(unit, axis).narrow(axis, 0, side)
    return keep.unsqueeze(1)


def draw_block_mask(images: Tensor, ratio: float, block: Sequence[int], *, exact: bool = False) -> Tensor:
    """`block_mask` for `images` `[B, channels, *S]` from the default random generator, one per sample."""
    shape = images.shape[2:]
    uniform = torch.rand(images.shape[0], *block_grid(shape, block), device=images.device)
    return block_mask(uniform, ratio, block, shape, exact=exact)


def hide(images: Tensor, visible: Tensor, fill: Fill = "zero") -> Tensor:
    """`images` `[B, channels, *S]` where `visible` `[B, 1, *S]`, elsewhere 0 or the mean of sample and channel."""
    if fill == "mean":
        return torch.where(visible, images, images.mean(tuple(range(2, images.ndim)), keepdim=True))
    return images * visible
