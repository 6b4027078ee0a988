"""Resampling to cubes of 1 mm as the pancreas scripts do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from scipy import ndimage

from semiseg.scans.resample import spline_along

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
        resampled = _nearest(result, positions, axis) if label else spline_along(result, axis, positions, "mirror")
        np.moveaxis(resampled, axis, 0)[outside] = 0
        result = resampled
    return result


def _nearest(values: Array, positions: Array, axis: int) -> Array:
    indices = np.floor(positions + 0.5).astype(int)
    return values.take(indices.clip(max=values.shape[axis] - 1), axis)


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
