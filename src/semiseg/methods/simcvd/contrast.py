"""Contrasts between a teacher's and a student's views: slices of distance maps, and patches of features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semiseg.ingredients.class_sums import full_precision

CELLS = 8
"""Cells per axis to which slices and features are averaged."""
HIDDEN, WIDTH = 64, 32
"""Of the projection."""


class SliceProjection(nn.Module):
    """Vectors of length one for the slices along the last axis of volumes, or for slices themselves.

    Averages in a grid of cells, then two layers.

    Args:
        maps: channels of what is projected.
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(maps * CELLS**2, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH))

    def forward(self, maps: Tensor) -> Tensor:
        """`[B * slices, WIDTH]` of maps `[B, K, *S]`."""
        rows = maps.movedim(-1, 1).flatten(0, 1) if maps.ndim == 5 else maps
        projected: Tensor = self.layers(in_cells(in_cells(rows, 2), 3).flatten(1))
        return F.normalize(full_precision(projected), dim=1, eps=1e-6)


def in_cells(values: Tensor, axis: int) -> Tensor:
    """Means of `values` in `CELLS` equal parts of an axis; a short one repeats its voxels."""
    side = values.shape[axis]
    edges = torch.arange(CELLS, device=values.device) * side / CELLS
    place = torch.arange(side, device=values.device).unsqueeze(0)
    # Whole voxels, at least the one in which the part begins.
    inside = (place >= edges.floor().unsqueeze(1)) & (place < (edges + side / CELLS).ceil().unsqueeze(1))
    weights = inside.to(values.dtype)
    weights = weights / weights.sum(1, keepdim=True)
    means: Tensor = torch.tensordot(values.movedim(axis, -1), weights, ([-1], [1]))
    return means.movedim(-1, axis)


def patch_vectors(features: Tensor) -> Tensor:
    """Means of features `[B, Z, *S]` in cells, as vectors of length one, `[B * cells, Z]`."""
    x = full_precision(features)
    for axis in range(2, x.ndim):
        x = in_cells(x, axis)
    return F.normalize(x.movedim(1, -1).flatten(0, -2), dim=1, eps=1e-6)


def info_nce(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """-mean_i ln(exp(t_i s_i / T) / sum_j exp(t_i s_j / T)) of vectors `[M, Z]` of length one."""
    scores = teacher @ student.T / temperature
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def similarity_mse(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean squared difference of the cosines between all pairs of a network's vectors `[M, Z]`."""
    return F.mse_loss(student @ student.T, teacher @ teacher.T)
