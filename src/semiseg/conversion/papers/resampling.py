"""Resampling to cubes of 1 mm as the pancreas scripts do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from scipy import ndimage

Array = np.ndarray[Any, np.dtype[Any]]


def by_bspline(
    values: Array, spacing: Sequence[float], *, label: bool, keep: Sequence[slice] = (slice(None),) * 3
) -> Array:
    """`values` `[X, Y, Z]` on a grid of 1 mm, with `int(size * spacing)` voxels; the first voxel stays in place.

    What SimpleITK's resampling with B-splines gives, axis after axis and therefore many times faster: beyond half a
    voxel from the last one everything is zero.

    Args:
        values: image, or class indices.
        spacing: mm along each axis.
        label: take the nearest neighbour, instead of a cubic B-spline through the voxels.
        keep: part of the result that is wanted; the rest is not computed.
    """
    result: Array = values.astype(np.uint8 if label else np.float32)
    for axis, mm in enumerate(spacing):
        positions = np.arange(int(values.shape[axis] * mm))[keep[axis]] / mm
        outside = positions >= values.shape[axis] - 0.5
        resampled = _nearest(result, positions, axis) if label else _spline(result, positions, axis)
        np.moveaxis(resampled, axis, 0)[outside] = 0
        result = resampled
    return result


def _nearest(values: Array, positions: Array, axis: int) -> Array:
    indices = np.floor(positions + 0.5).astype(int)
    return values.take(indices.clip(max=values.shape[axis] - 1), axis)


def _spline(values: Array, positions: Array, axis: int) -> Array:
    """The cubic B-spline through `values` along `axis`, mirrored at its ends, at `positions` (in voxels)."""
    if values.shape[axis] == 1:
        return values.take(np.zeros(len(positions), int), axis)
    coefficients = ndimage.spline_filter1d(values, 3, axis, output=np.float32, mode="mirror")
    left = np.floor(positions).astype(int)
    t = positions - left
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    shape = [len(t) if other == axis else 1 for other in range(values.ndim)]
    period = 2 * values.shape[axis] - 2
    result = np.zeros([len(t) if other == axis else n for other, n in enumerate(values.shape)], np.float32)
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        folded = (left + offset) % period
        result += (weight / 6).astype(np.float32).reshape(shape) * coefficients.take(
            np.minimum(folded, period - folded), axis
        )
    return result


def by_affine(values: Array, spacing: Sequence[float], *, label: bool) -> Array:
    """`values` `[X, Y, Z]` on a grid of 1 mm, with `round(size * spacing)` voxels; the first voxel stays in place.

    Args:
        values: image, or class indices.
        spacing: mm along each axis.
        label: take the nearest neighbour, instead of the trilinear mean.
    """
    shape = tuple(round(side * mm) for side, mm in zip(values.shape, spacing, strict=True))
    kept: Array = values.astype(np.uint8 if label else np.float32)
    factors = 1.0 / np.asarray(spacing, dtype=float)
    resampled: Array = cast(Any, ndimage).affine_transform(kept, factors, output_shape=shape, order=0 if label else 1)
    return resampled
