"""Resampling of volumes to another number of voxels over the same field of view.

Voxel i of n covers [i, i + 1) / n of the field of view, before and after; beyond the border the volume is mirrored.
Splines are separable, so each axis is resampled by itself: 4 taps per axis instead of 64 per voxel. The result is
that of `scipy.ndimage.zoom(..., grid_mode=True, mode="reflect")`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from scipy import ndimage, sparse

Array = np.ndarray[Any, np.dtype[Any]]
Mirror = Literal["reflect", "mirror"]


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
    places = positions(volume.shape[axis], size)
    if order == 3:
        return spline_along(volume, axis, places, "reflect", owned=owned)
    return _apply(_weights(volume.shape[axis], places, order), volume, axis)


def spline_along(volume: Array, axis: int, places: Array, mode: Mirror, *, owned: bool = False) -> Array:
    """The cubic B-spline through `volume` `[X, Y, Z]` along `axis` at `places` in voxels, as float32.

    Args:
        volume: float32.
        axis: the resampled one.
        places: where the results lie, voxel i at i.
        mode: mirrored at the border of the last voxel (`reflect`) or at its centre (`mirror`).
        owned: `volume` may be overwritten.
    """
    if volume.shape[axis] == 1 and mode == "mirror":  # nothing to mirror at
        return volume.take(np.zeros(len(places), int), axis)
    target: Any = volume if owned else np.float32
    coefficients = ndimage.spline_filter1d(volume, 3, axis, output=target, mode=mode)
    volume = volume if coefficients is None else coefficients
    return _apply(_weights(volume.shape[axis], places, 3, mode), volume, axis)


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


def _weights(n: int, places: Array, order: int, mode: Mirror = "reflect") -> Any:
    """Sparse `[places, n]` matrix of linear weights, or of cubic B-spline weights for spline coefficients."""
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
    period, last = (2 * n, 2 * n - 1) if mode == "reflect" else (2 * n - 2, 2 * n - 2)
    columns = np.stack([left + offset for offset in taps]) % period
    columns = np.where(columns < n, columns, last - columns)
    rows = np.broadcast_to(np.arange(len(places)), columns.shape)
    entries: Any = (np.stack(list(taps.values())).astype(np.float32).ravel(), (rows.ravel(), columns.ravel()))
    shape: Any = (len(places), n)
    return sparse.csr_array(entries, shape=shape)
