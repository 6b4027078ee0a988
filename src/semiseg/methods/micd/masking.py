"""Images with hidden blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from semiseg.errors import InputError

Side = Annotated[int, Field(ge=1)]


class MaskingOptions(BaseModel):
    """Share and size of the hidden blocks."""

    mask_ratio: float = Field(0.5, ge=0, le=1, description="share of the image to hide")
    mask_block: Side | tuple[Side, ...] = Field(3, description="side of a hidden block in voxels, or one per axis")


class Masking:
    """Draws blocks and hides them (MICD, arXiv:2503.14013, Eq. 2).

    Args:
        options: share and size of the blocks.
        dims: number of spatial axes.

    Raises:
        InputError: the block has another number of sides.
    """

    def __init__(self, options: MaskingOptions, dims: int) -> None:
        self.ratio = options.mask_ratio
        side = options.mask_block
        self.block = side if isinstance(side, tuple) else (side,) * dims
        if len(self.block) != dims:
            raise InputError(f"mask_block: expected one side or {dims}, came {list(self.block)}")

    def hide(self, images: Tensor) -> Tensor:
        """`images` `[B, channels, *S]` with zeros in the blocks, drawn per sample."""
        return images * draw_block_mask(images, self.ratio, self.block)


def block_grid(shape: Sequence[int], block: Sequence[int]) -> tuple[int, ...]:
    """Number of blocks per axis; the last one may be cut."""
    return tuple(-(-side // unit) for side, unit in zip(shape, block, strict=True))


def block_mask(uniform: Tensor, ratio: float, block: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Mask of the visible voxels, bool `[B, 1, *shape]`.

    Args:
        uniform: `[B, *block_grid(shape, block)]`, a draw from [0, 1) per block.
        ratio: share of the blocks to hide on average: those whose draw is below it.
        block: side of a block per axis, in voxels.
    """
    keep = uniform >= ratio
    for axis, (unit, side) in enumerate(zip(block, shape, strict=True), start=1):
        keep = keep.repeat_interleave(unit, axis).narrow(axis, 0, side)
    return keep.unsqueeze(1)


def draw_block_mask(images: Tensor, ratio: float, block: Sequence[int]) -> Tensor:
    """`block_mask` for `images` `[B, channels, *S]` from the default random generator, one per sample."""
    shape = images.shape[2:]
    uniform = torch.rand(images.shape[0], *block_grid(shape, block), device=images.device)
    return block_mask(uniform, ratio, block, shape)
