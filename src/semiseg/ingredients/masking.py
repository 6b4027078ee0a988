"""Images with hidden blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from semiseg.errors import InputError

Side = Annotated[int, Field(ge=1)]
Fill = Literal["zero", "mean"]


class MaskingOptions(BaseModel):
    """How blocks are hidden; a method's options may include these."""

    mask_ratio: float = Field(0.5, ge=0, le=1, description="share of the image to hide")
    mask_block: Side | tuple[Side, ...] = Field(3, description="side of a hidden block in voxels, or one per axis")
    mask_exact: bool = Field(False, description="hide exactly this share of the blocks instead of on average")
    mask_fill: Fill = Field("zero", description="what hidden voxels become: 0, or the mean of sample and channel")


class Masking:
    """Draws hidden blocks and hides them.

    Args:
        options: their size, share and content.
        dims: number of spatial axes.

    Raises:
        InputError: the block has another number of sides.
    """

    def __init__(self, options: MaskingOptions, dims: int) -> None:
        self.options = options
        side = options.mask_block
        self.block = side if isinstance(side, tuple) else (side,) * dims
        if len(self.block) != dims:
            raise InputError(f"mask_block: expected one side or {dims}, came {list(self.block)}")

    def draw(self, images: Tensor) -> Tensor:
        """Which voxels of `images` `[B, channels, *S]` stay visible, bool `[B, 1, *S]`, drawn per sample."""
        return draw_block_mask(images, self.options.mask_ratio, self.block, exact=self.options.mask_exact)

    def hide(self, images: Tensor, visible: Tensor) -> Tensor:
        """The images with the other voxels filled."""
        return hide(images, visible, self.options.mask_fill)


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
