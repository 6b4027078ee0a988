"""From a scan as it was read to the array that a network sees; training and prediction go through here alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from semiseg.errors import InputError
from semiseg.preparing.plan import Normalisation, Plan
from semiseg.scans.crop import LabelCrop, label_box
from semiseg.scans.foreground import Box, Foreground, find_foreground, sample
from semiseg.scans.geometry import Geometry, crop, image_orders, orient, orientation, stored_shape
from semiseg.scans.readers import Volume
from semiseg.scans.resample import resample, zoom_nearest

Array = np.ndarray[Any, np.dtype[Any]]

_FLOAT16_MAX = float(np.finfo(np.float16).max)
_SMALLEST_STD = 1e-8
_FAR = 6.0  # interquartile ranges beyond which ordinary scans have no tissue
_FINEST, _SMALL = 1 << 9, 1 << 15  # times as many voxels, of a scan of so many


def preprocess(
    volume: Volume,
    plan: Plan,
    dtype: type[np.floating[Any]] = np.float32,
    label: Array | None = None,
    seen: Foreground | None = None,
) -> tuple[Array, Geometry]:
    """Reorient, crop to the image's foreground (or as the plan says), normalise and resample.

    With `plan.slice_size`, nothing is cropped, and every slice is brought to that size.

    Args:
        volume: image `[C, X, Y, Z]` with its affine.
        plan: of the dataset.
        dtype: of the result; the values fit float16 whatever it is.
        label: `[X, Y, Z]`, for a plan that crops around it; such a plan keeps a scan without a label whole.
        seen: foreground along canonical axes, where it is known already.

    Returns:
        Image `[C, *stored]`, and the geometry that undoes it.
    """
    axes, flips = orientation(volume.affine, plan.transpose)
    image = orient(volume.array, axes, flips)
    seen = find_foreground(image) if seen is None else seen.along(plan.transpose)
    box = _box(image, seen, plan, None if label is None else orient(label, axes, flips))
    image = crop(image, box)
    first, second, third = (volume.spacing[axis] for axis in axes)
    spacing = (first, second, third)
    target = plan.spacing if plan.resampled else spacing
    if plan.slice_size:
        stored = (*plan.slice_size, image.shape[3])
    else:
        stored = stored_shape(image.shape[1:], spacing, target, plan.spatial_dims)
    if math.prod(stored) > _FINEST * max(math.prod(image.shape[1:]), _SMALL):
        raise InputError(
            f"plan.json: spacing: {list(target)} mm would make {list(stored)} voxels of {list(image.shape[1:])}: "
            "expected something near the spacing of the scans; correct the plan, or see whether the scan's spacing of "
            f"{', '.join(f'{side:g}' for side in spacing)} mm is right"
        )
    x, y, z = volume.array.shape[1:]
    geometry = Geometry(
        shape=(x, y, z),
        axes=axes,
        flips=flips,
        start=box[0],
        stop=box[1],
        stored=stored,
        zoomed=plan.slice_size is not None,
    )
    orders = image_orders(spacing, target)
    result: Array = np.empty((len(image), *stored), dtype=dtype)
    for index, (channel, threshold) in enumerate(zip(image, seen.thresholds, strict=True)):
        values = normalise(channel, plan.normalisation[index], threshold)
        values = zoom_nearest(values, stored) if geometry.zoomed else resample(values, stored, orders)
        result[index] = np.clip(values, -_FLOAT16_MAX, _FLOAT16_MAX, out=values)
    return result, geometry


def _box(image: Array, seen: Foreground, plan: Plan, label: Array | None) -> Box:
    """The part of `image` `[C, *S]` along stored axes that the plan keeps."""
    if plan.crop == "foreground" and not plan.slice_size:
        return seen.box
    if isinstance(plan.crop, LabelCrop) and label is not None and not plan.slice_size:
        return label_box(label, plan.crop)
    x, y, z = image.shape[1:]
    return (0, 0, 0), (x, y, z)


def normalise(channel: Array, how: Normalisation, threshold: float = -np.inf) -> Array:
    """`channel` `[X, Y, Z]` as float32, normalised by the scheme of `how`.

    Args:
        channel: intensities as in the file; not changed.
        how: scheme and its numbers.
        threshold: above it lies the foreground, over which `zscore` takes mean and standard deviation.
    """
    values = np.array(channel, dtype=np.float32, order="C")
    if how.lower is not None and how.upper is not None:
        np.clip(values, how.lower, how.upper, out=values)
    if how.scheme == "none":
        return values
    if how.scheme == "minmax":
        low, high = (how.lower, how.upper) if how.upper is not None else (float(values.min()), float(values.max()))
        return _scale(values, low or 0.0, (high or 0.0) - (low or 0.0))
    if how.scheme == "ct":
        return _scale(values, how.mean or 0.0, how.std or 1.0)
    return _scale(values, *_moments(values, threshold))


def _scale(values: Array, centre: float, width: float) -> Array:
    values -= np.float32(centre)
    values /= np.float32(max(width, _SMALLEST_STD))
    return values


def _moments(values: Array, threshold: float) -> tuple[float, float]:
    """Mean and standard deviation above `threshold` (of everything when nothing is), in float64, plane by plane.

    Without what lies far outside of the rest: a few voxels of an implant or at a coil would decide both.
    """
    if not any((plane > threshold).any() for plane in values):
        threshold = -np.inf
    fence = _fence(sample(values), threshold)
    count, total, square = 0, 0.0, 0.0
    for plane in values:
        inside = plane[(plane > threshold) & (plane <= fence)]
        count += inside.size
        total += float(inside.sum(dtype=np.float64))
    mean = total / count
    for plane in values:
        inside = plane[(plane > threshold) & (plane <= fence)]
        square += float(np.square(inside - mean, dtype=np.float64).sum())
    return mean, float(np.sqrt(square / count))


def _fence(values: Array, threshold: float) -> float:
    """Six interquartile ranges above the upper quartile of what exceeds `threshold`; infinity where that is equal."""
    inside = values[values > threshold]
    if not inside.size:
        return np.inf
    low, high = (float(v) for v in np.percentile(inside, (25, 75)))
    return high + _FAR * (high - low) if high > low else np.inf
