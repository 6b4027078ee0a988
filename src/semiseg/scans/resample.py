"""Resampling of volumes to another number of voxels over the same field of view.

Voxel i of n covers [i, i + 1) / n of the field of view, before and after; beyond the border the volume is mirrored.
Splines are separable, so each axis is resampled by itself: 4 taps per axis instead of 64 per voxel. The result is
that of `scipy.ndimage.zoom(..., grid_mode=True, mode="reflect")`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage, sparse

Array = np.ndarray[Any, np.dtype[Any]]


def resample(volume: Array, shape: Sequence[int], orders: Sequence[int]) -> Array:
    """`volume` `[X, Y, Z]` on a grid of `shape`, as float32.

    Args:
        volume: anything real; it is not changed.
        shape: voxels per axis of the result.
        orders: per axis 0 (nearest), 1 (linear) or 3 (cubic spline).
    """
    result = np.asarray(volume, dtype=np.float32)
    shrinking_first = sorted(range(3), key=lambda axis: shape[axis] / volume.shape[axis])
    for axis in shrinking_first:
        if shape[axis] != result.shape[axis]:
            result = _along(result, axis, shape[axis], orders[axis], owned=not np.may_share_memory(result, volume))
    return result


def zoom_nearest(volume: Array, shape: Sequence[int]) -> Array:
    """`volume` `[X, Y, Z]` on a grid of `shape` whose corner voxels are those of `volume`; nearest voxels, dtype kept.

    Voxel i of n reads voxel i (m - 1) / (n - 1) of m. The public code of the 2D cardiac benchmark resizes slices so, by
    this function of scipy; for some pairs of sizes rounding makes it read beyond the last voxel and fill in zero.
    """
    factors = [size / side for size, side in zip(shape, volume.shape, strict=True)]
    zoomed: Array = ndimage.zoom(volume, factors, order=0)
    return zoomed


def resample_label(label: Array, shape: Sequence[int]) -> Array:
    """`label` `[X, Y, Z]` on a grid of `shape`: the class whose linearly resampled mask is largest, dtype kept."""
    if label.shape == tuple(shape):
        return label
    classes = [int(value) for value in np.unique(label)]
    return classes_by_vote((resample(label == value, shape, (1, 1, 1)) for value in classes), classes, label.dtype)


def classes_by_vote(scores: Any, classes: Sequence[int], dtype: Any = np.uint8) -> Array:
    """Per voxel the class of the highest score; `scores` are volumes that are looked at one at a time.

    Ties go to the class that comes first.
    """
    best: Array | None = None
    for value, score in zip(classes, scores, strict=True):
        if best is None:
            best, winner = np.array(score, dtype=np.float32), np.full(score.shape, value, dtype)
            continue
        better = score > best
        winner[better] = value
        np.maximum(best, score, out=best)
    if best is None:
        raise ValueError("no class to choose from")
    return winner


def _along(volume: Array, axis: int, size: int, order: int, *, owned: bool) -> Array:
    if order == 0:
        return np.take(volume, _nearest_voxels(volume.shape[axis], size), axis=axis)
    if order == 3:
        target: Any = volume if owned else np.float32
        coefficients = ndimage.spline_filter1d(volume, 3, axis, output=target, mode="reflect")
        volume = volume if coefficients is None else coefficients
    return _apply(_weights(volume.shape[axis], size, order), volume, axis)


def _apply(weights: Any, volume: Array, axis: int) -> Array:
    """`weights` `[size, n]` times `volume` along `axis`, slab by slab so that temporaries stay small."""
    shape = list(volume.shape)
    shape[axis] = weights.shape[0]
    result: Array = np.empty(shape, dtype=np.float32)
    if axis == 0:
        for column in range(shape[1]):
            result[:, column] = weights @ volume[:, column]
        return result
    for row in range(shape[0]):
        result[row] = weights @ volume[row] if axis == 1 else (weights @ volume[row].T).T
    return result


def positions(n: int, size: int) -> Array:
    """Where on an axis of n voxels the centres of `size` voxels over the same field of view lie."""
    return (np.arange(size) + 0.5) * (n / size) - 0.5


def _nearest_voxels(n: int, size: int) -> Array:
    return np.clip(np.rint(positions(n, size)).astype(np.intp), 0, n - 1)


def _weights(n: int, size: int, order: int) -> Any:
    """Sparse `[size, n]` matrix of linear weights, or of cubic B-spline weights for spline coefficients."""
    places = positions(n, size)
    left = np.floor(places).astype(np.intp)
    t = places - left
    taps: dict[int, Array]
    if order == 1:
        taps = {0: 1 - t, 1: t}
    else:
        taps = {
            -1: (1 - t) ** 3 / 6,
            0: (3 * t**3 - 6 * t**2 + 4) / 6,
            1: (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
            2: t**3 / 6,
        }
    columns = np.stack([left + offset for offset in taps]) % (2 * n)
    columns = np.where(columns < n, columns, 2 * n - 1 - columns)
    rows = np.broadcast_to(np.arange(size), columns.shape)
    entries: Any = (np.stack(list(taps.values())).astype(np.float32).ravel(), (rows.ravel(), columns.ravel()))
    shape: Any = (size, n)
    return sparse.csr_array(entries, shape=shape)
