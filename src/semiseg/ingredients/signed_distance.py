"""Signed distances to the border of a class, computed where the labels lie."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def signed_distances(labels: Tensor, classes: int) -> Tensor:
    """Distance of every voxel to each foreground class, `[B, classes - 1, *S]` in float32 (SASSNet, arXiv:2007.10732).

    Negative inside, positive outside, each side divided by its largest value within the patch, so from -1 to 1; 0 on
    voxels of the class with a face that borders on another class. Distances are Euclidean, in voxels, between voxels.
    A class that is absent, or everywhere, has 0 everywhere; for the latter the official function gives NaN.

    Args:
        labels: `[B, *S]`.
        classes: number of classes, background included.
    """
    numbers = torch.arange(1, classes, device=labels.device).view(-1, *(1,) * (labels.ndim - 1))
    inside = labels.unsqueeze(1) == numbers
    outward, inward = squared_distances(torch.stack([inside, ~inside]), labels.ndim - 1)
    signed = torch.where(inward == 1, 0.0, _scaled(outward) - _scaled(inward))
    return torch.where(_anywhere(inside) & _anywhere(~inside), signed, 0.0)


def squared_distances(there: Tensor, dims: int) -> Tensor:
    """Squared distance in voxels of each voxel to the nearest one of `there`, bool `[..., *S]` of `dims` axes.

    In float32, exact; infinite where there is none. One axis after the other: the least of what is known along the axis
    plus the squared step to it (Felzenszwalb and Huttenlocher, 2012), for all places at once instead of by envelopes.
    """
    best = torch.zeros(there.shape, device=there.device).masked_fill(~there, torch.inf)
    for axis in range(there.ndim - dims, there.ndim):
        known = best
        place = torch.arange(there.shape[axis], device=there.device, dtype=best.dtype)
        for number in range(there.shape[axis]):
            steps = (place - number).square().view(-1, *(1,) * (there.ndim - 1 - axis))
            best = torch.minimum(best, known.narrow(axis, number, 1) + steps)
    return best


def _scaled(squared: Tensor) -> Tensor:
    """Distances of `[B, K, *S]` over the largest of each patch and class."""
    rows = squared.sqrt().flatten(2)
    return (rows / rows.amax(2, keepdim=True)).view(squared.shape)


def _anywhere(there: Tensor) -> Tensor:
    return there.flatten(2).any(2).view(*there.shape[:2], *(1,) * (there.ndim - 2))
