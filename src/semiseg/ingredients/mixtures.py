"""Images composed of two by shares of the first: `[B, 1, *S]`, or `[B, 1, 1 ...]` for the whole image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mixup(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Sum of `share` * `first` and (1 - `share`) * `second` (arXiv:1710.09412)."""
    share = share.to(first.dtype)
    return share * first + (1 - share) * second


def box_mask(lower: Tensor, upper: Tensor, shape: Sequence[int]) -> Tensor:
    """Bool `[B, 1, *shape]`, True from `lower` to before `upper` `[B, dims]`."""
    inside = torch.ones(len(lower), *shape, dtype=torch.bool, device=lower.device)
    for axis, side in enumerate(shape):
        place = torch.arange(side, device=lower.device)
        along = (place >= lower[:, axis, None]) & (place < upper[:, axis, None])
        inside &= along.view(len(lower), *(side if k == axis else 1 for k in range(len(shape))))
    return inside.unsqueeze(1)


def corner_box(shape: Sequence[int], fraction: float, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes with sides int(fraction * side) at a uniform corner (BCP, arXiv:2305.00673), lower and upper `[B, dims]`.

    `uniform` `[B, dims]` are draws from [0, 1).
    """
    sides = [int(side * fraction) for side in shape]
    rooms = [full - side for full, side in zip(shape, sides, strict=True)]
    lower = torch.stack([_integer(uniform[:, axis], 0, room) for axis, room in enumerate(rooms)], 1)
    return lower, torch.stack([lower[:, axis] + side for axis, side in enumerate(sides)], 1)


def centre_box(shape: Sequence[int], shown: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes that hide about 1 - `shown` of the image, by the rule of CutMix in the 3D form of AD-MT.

    Sides int(side sqrt(1 - shown)); the centre is uniform in [side // 8, side), and the box is cut at the border.

    Args:
        shown: `[B]`, lambda of CutMix (arXiv:1905.04899).
        uniform: `[B, dims]`, draws from [0, 1).
    """
    lower, upper = [], []
    for axis, side in enumerate(shape):
        half = (side * torch.sqrt(1 - shown)).long() // 2
        centre = _integer(uniform[:, axis], side // 8, side)
        lower.append((centre - half).clamp(min=0))
        upper.append((centre + half).clamp(max=side))
    return torch.stack(lower, 1), torch.stack(upper, 1)


def column_box(shape: Sequence[int], shown: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """`centre_box` in the first two axes and all of the third, as PS-MT and TraCoCo cut volumes."""
    lower, upper = centre_box(shape, shown, uniform)
    if len(shape) == 3:
        lower[:, 2], upper[:, 2] = 0, shape[2]
    return lower, upper


def draw_column_boxes(images: Tensor, beta: float) -> Tensor:
    """One `column_box` for each of `images` `[B, channels, *S]`, shown shares from Beta; bool `[B, 1, *S]`."""
    uniform = torch.rand(len(images), images.ndim - 2, device=images.device)
    shape = tuple(images.shape[2:])
    return box_mask(*column_box(shape, draw_beta(beta, uniform[:, 0]), uniform), shape)


def _integer(uniform: Tensor, first: int, end: int) -> Tensor:
    """Whole numbers from `first` to before `end` (or `first`, if there are none) of draws from [0, 1)."""
    # A draw just below one may round up to one in float32.
    return (first + (uniform * (end - first)).long()).clamp(max=max(end - 1, first))


def draw_beta(shape: float, like: Tensor) -> Tensor:
    """A draw from Beta(`shape`, `shape`) for every element of `like`, made on the host."""
    both = torch.full(like.shape, shape)
    draws: Tensor = torch.distributions.Beta(both, both, validate_args=False).sample()
    return draws.to(like.device, non_blocking=True)
