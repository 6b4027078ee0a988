"""Two crops of every patch, and how far predictions agree where they overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.reduce import batch_sum

Axis = Literal["space", "classes"]
LEAST, LARGEST = 1e-6, 1.0
"""Between which the official code cuts logits."""
OUTSIDE = -1e4
"""Logit of what does not count in a softmax over space."""


class Crops(NamedTuple):
    """First voxels `[B, dims]` of two crops with these sides; the second one never lies behind the first."""

    first: Tensor
    second: Tensor
    sides: tuple[int, ...]


def crop_sides(patch: Sequence[int], share: float, divisor: Sequence[int]) -> tuple[int, ...]:
    """The multiples of `divisor` that are nearest below `share` of the sides.

    No less than twice the divisor where the patch has that: of a single voxel at the bottleneck nothing is normalised.
    """
    return tuple(
        max(int(side * share + 1e-9) // unit, min(side // unit, 2)) * unit
        for side, unit in zip(patch, divisor, strict=True)
    )


def draw_crops(images: Tensor, sides: tuple[int, ...]) -> Crops:
    """The first start uniform in the patch, the second uniform from 0 up to it, per axis."""
    room = torch.tensor(images.shape[2:]) - torch.tensor(sides)
    uniform = torch.rand(2, len(images), len(sides), device=images.device)
    first = (uniform[0] * (room.to(images.device, non_blocking=True) + 1)).long()
    return Crops(first, (uniform[1] * (first + 1)).long(), sides)


def cut(values: Tensor, starts: Tensor, sides: Sequence[int]) -> Tensor:
    """Windows of `values` `[B, C, *S]` from `starts` `[B, dims]` on; beyond the end the last voxels again."""
    shape, dims = values.shape[2:], len(sides)
    places = [
        (starts[:, k, None] + torch.arange(sides[k], device=values.device))
        .clamp(max=shape[k] - 1)
        .view(-1, *(sides[k] if j == k else 1 for j in range(dims)))
        for k in range(dims)
    ]
    rows = torch.arange(len(values), device=values.device).view(-1, *(1,) * dims)
    return values.movedim(1, -1)[(rows, *places)].movedim(-1, 1).contiguous()


def overlap(shift: Tensor, sides: Sequence[int]) -> Tensor:
    """Voxels of the first crop that the second one shows, `shift` `[B, dims]` before it; bool `[B, 1, *S]`."""
    inside = torch.ones(len(shift), *sides, dtype=torch.bool, device=shift.device)
    for k, side in enumerate(sides):
        along = torch.arange(side, device=shift.device) < side - shift[:, k, None]
        inside &= along.view(-1, *(side if j == k else 1 for j in range(len(sides))))
    return inside.unsqueeze(1)


def translation_losses(first: Tensor, second: Tensor, shift: Tensor, axis: Axis) -> tuple[Tensor, Tensor]:
    """Divergence of the second crop's prediction from the first one's where they overlap, and their negative entropy.

    The divergence is a mean over voxels and classes, summed over samples; the entropy a mean over samples with an
    overlap. As in yyliu01/TraCoCo, with `axis: space`, the softmax of the divergence is over the first axis of space,
    of logits cut to 1e-6 ... 1; `classes` takes it over the classes, of logits as they are.

    Args:
        first, second: logits `[B, C, *S]` of both crops.
        shift: how much earlier the second starts, `[B, dims]`.
        axis: of the softmax.
    """
    keep = overlap(shift, first.shape[2:])
    a, b = full_precision(first), cut(full_precision(second), shift, second.shape[2:])
    if axis == "space":
        a, b = a.clamp(LEAST, LARGEST), b.clamp(LEAST, LARGEST)
        log_a, log_b = (F.log_softmax(z.masked_fill(~keep, OUTSIDE), 2) for z in (a, b))
    else:
        log_a, log_b = (F.log_softmax(z, 1) for z in (a, b))
    voxels = keep.flatten(1).sum(1)
    divergence = (log_b.exp() * (log_b - log_a) * keep).flatten(1).sum(1) / (a.shape[1] * voxels.clamp(min=1))
    entropies = [
        ((log_p.exp() * log_p).sum(1, keepdim=True) * keep).flatten(1).sum(1) / voxels.clamp(min=1)
        for log_p in (F.log_softmax(z, 1) for z in (a, b))
    ]
    seen = (voxels > 0).sum().to(a.dtype)
    agreed, total, count = batch_sum(torch.stack([divergence.sum(), torch.stack(entropies).sum(), 2 * seen]))
    return agreed, total / count.clamp(min=1)
