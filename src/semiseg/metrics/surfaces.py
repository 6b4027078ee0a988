"""Surfaces of masks and the distances between them, by the definitions of `medpy.metric.binary`.

A surface voxel has a face neighbour outside its mask; what is beyond the array is outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from semiseg.system.optional import optional

edt = optional("edt")  # scipy gives the same numbers

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances between two surfaces in one unit.

    Attributes:
        forward: from voxels on the surface of the prediction alone to that of the truth; on both, it would be 0.
        backward: from voxels on the surface of the truth alone to that of the prediction.
        prediction_surface, truth_surface: numbers of voxels on each surface, those on both included.
    """

    forward: NDArray[np.float64]
    backward: NDArray[np.float64]
    prediction_surface: int
    truth_surface: int

    @cached_property
    def pooled(self) -> NDArray[np.float64]:
        """Distances of both directions, of every surface voxel: `[prediction_surface + truth_surface]`."""
        found = np.zeros(self.prediction_surface + self.truth_surface)
        found[: len(self.forward)] = self.forward
        found[len(self.forward) : len(self.forward) + len(self.backward)] = self.backward
        return found


def surface(mask: Mask) -> Mask:
    """Voxels of the mask `[*S]` with a face neighbour that is not in it."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        inner, whole = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        inner[1:] &= whole[:-1]
        inner[:-1] &= whole[1:]
        inner[[0, -1]] = False
    return mask & ~inside


def surface_distances(predicted: Mask, true: Mask, spacing: Sequence[float]) -> SurfaceDistances:
    """Distances between two surfaces `[*S]`; voxels on both are at distance 0 and need no search."""
    return SurfaceDistances(
        _nearest(predicted & ~true, true, spacing),
        _nearest(true & ~predicted, predicted, spacing),
        int(np.count_nonzero(predicted)),
        int(np.count_nonzero(true)),
    )


def _nearest(points: Mask, targets: Mask, spacing: Sequence[float]) -> NDArray[np.float64]:
    """Distance from every voxel of `points` to the nearest of `targets`, by the faster of two exact ways.

    A search tree takes time by the voxels, a distance transform by the box: a few far false positives blow up the box
    but not the tree; noise is the other way round.
    """
    voxels_worth_a_searched_point = 8
    searched = np.count_nonzero(points) + np.count_nonzero(targets)
    dense = searched * voxels_worth_a_searched_point > points.size
    return (_nearest_by_transform if dense else _nearest_by_tree)(points, targets, spacing)


def _nearest_by_tree(points: Mask, targets: Mask, spacing: Sequence[float]) -> NDArray[np.float64]:
    tree = cKDTree(np.argwhere(targets) * np.asarray(spacing), leafsize=32, balanced_tree=False)
    return np.asarray(tree.query(np.argwhere(points) * np.asarray(spacing))[0])


def _nearest_by_transform(points: Mask, targets: Mask, spacing: Sequence[float]) -> NDArray[np.float64]:
    if edt is not None and set(spacing) == {1.0} and _exact_in_float32(targets.shape):
        squares = np.asarray(edt.edtsq(~targets, black_border=False, parallel=1))[points]
        return np.sqrt(squares.astype(np.float64))
    # Distances are formed from the indices at the points only: over the whole box they cost as much as the transform.
    nearest: Any = ndimage.distance_transform_edt(
        ~targets, sampling=spacing, return_distances=False, return_indices=True
    )
    where = np.nonzero(points)
    parts = [(step * (index[where] - at)) ** 2 for step, index, at in zip(spacing, nearest, where, strict=True)]
    return np.asarray(np.sqrt(np.sum(parts, axis=0)))


def _exact_in_float32(shape: Sequence[int]) -> bool:
    """Whether every squared distance in a box of `shape`, a whole number of voxels, is one of float32."""
    return sum(side * side for side in shape) <= 1 << 24
