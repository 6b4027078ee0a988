"""Resampling to cubes of 1 mm as the pancreas scripts do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from scipy import ndimage

Array = np.ndarray[Any, np.dtype[Any]]


def by_simpleitk(values: Array, spacing: Sequence[float], *, label: bool) -> Array:
    """`values` `[X, Y, Z]` on a grid of 1 mm, with `int(size * spacing)` voxels; the first voxel stays in place.

    Args:
        values: image, or class indices.
        spacing: mm along each axis.
        label: take the nearest neighbour, instead of a cubic B-spline through the voxels.
    """
    import SimpleITK as sitk

    image: Any = sitk.GetImageFromArray(values.transpose(2, 1, 0).astype(np.uint8 if label else np.float32))
    image.SetSpacing([float(mm) for mm in spacing])
    resampler = cast(Any, sitk).ResampleImageFilter()
    resampler.SetNumberOfThreads(1)  # cases run in parallel
    resampler.SetSize([int(side * mm) for side, mm in zip(values.shape, spacing, strict=True)])
    resampler.SetOutputSpacing([1.0, 1.0, 1.0])
    resampler.SetInterpolator(sitk.sitkNearestNeighbor if label else sitk.sitkBSpline)
    return np.asarray(sitk.GetArrayFromImage(resampler.Execute(image)).transpose(2, 1, 0))


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
