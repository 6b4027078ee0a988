"""Images made of two images: a box of one pasted into the other (CutMix, Yun et al., ICCV 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Pairs = Literal["all", "half"]
PAIRS_DOC = (
    "pairs of images that are mixed: `all`, every image is once what surrounds the box and once what is pasted; "
    "`half`, each image is one of the two, which makes half as many mixtures, as in the official code"
)


def box_sides(shape: Sequence[int], ratio: float) -> tuple[int, ...]:
    """Sides of the box in voxels: floor(ratio * side) per axis, `ratio` below 1."""
    return tuple(int(side * ratio) for side in shape)


def outside_box(starts: Sequence[int] | Tensor, sides: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Which voxels lie outside of a box, bool `[*shape]`, on the device of `starts` (a tensor, one number per axis)."""
    starts = torch.as_tensor(starts)
    inside = torch.ones((), dtype=torch.bool, device=starts.device)
    for axis, (side, size) in enumerate(zip(sides, shape, strict=True)):
        place = torch.arange(size, device=starts.device) - starts[axis]
        inside = inside.unsqueeze(-1) & (place >= 0) & (place < side)
    return ~inside


def draw_outside_box(images: Tensor, ratio: float) -> Tensor:
    """One box for all of `images` `[B, channels, *S]`, bool `[*S]` as `outside_box` gives it.

    Its start is uniform among 0 ... size - side - 1 per axis, as in BCP and CML, whose last start never occurs.
    """
    shape = images.shape[2:]
    sides = box_sides(shape, ratio)
    starts = [torch.randint(size - side, (), device=images.device) for side, size in zip(sides, shape, strict=True)]
    return outside_box(torch.stack(starts), sides, shape)


def halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """First and second half of a batch; with an odd number of samples the one in the middle is in both."""
    half = -(-len(values) // 2)
    return values[:half], values[len(values) - half :]


def partners(values: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """The samples of a batch that surround, and those that are pasted; of two or more none meets itself."""
    return halves(values) if pairs == "half" else (values, values.roll(-(len(values) // 2), 0))


def paste(outside: Tensor, inside: Tensor, mask: Tensor) -> Tensor:
    """`outside` where `mask` `[*S]`, else `inside`; images `[B, channels, *S]` or labels `[B, *S]`."""
    return torch.where(mask, outside, inside)


def paste_partners(values: Tensor, mask: Tensor, pairs: Pairs) -> Tensor:
    """Every sample's partner pasted into it, where `mask` is false."""
    return paste(*partners(values, pairs), mask)


def in_turn(values: Tensor, count: int) -> Tensor:
    """`count` samples of `values`, the first ones again where there are fewer."""
    return values[torch.arange(count, device=values.device) % len(values)]
