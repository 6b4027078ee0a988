"""Crops around the pancreas (or another object) in the two published ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from semiseg.conversion.papers.arrays import crop_affine, scale_affine, window, zscore
from semiseg.conversion.papers.base import Scan
from semiseg.conversion.papers.resampling import by_bspline
from semiseg.scans.boxes import Spans, bounds, padded_box
from semiseg.scans.grids import spacing_of

Array = np.ndarray[Any, np.dtype[Any]]

MARGIN = 25
SIDE = 96


def mcnet_scan(image: Array, label: Array, affine: Array, limits: tuple[float, float], axes: Sequence[int]) -> Scan:
    """The line of MC-Net: 1 mm by B-spline, window, crop, zero mean and unit variance of the crop.

    Args:
        image: HU `[X, Y, Z]`.
        label: the object where above 0, `[X, Y, Z]`.
        affine: voxels -> RAS+ mm.
        limits: HU to which the image is clipped.
        axes: which ones are cropped around the label.
    """
    spacing = spacing_of(affine)
    mask = by_bspline(label > 0, spacing, label=True) > 0
    spans = mcnet_box(mask, axes)
    scaled = window(by_bspline(image, spacing, label=False, keep=spans), *limits)
    moved = crop_affine(scale_affine(affine, [1 / mm for mm in spacing]), spans)
    return Scan(zscore(scaled)[None], mask[spans], moved)


def mcnet_box(mask: Array, axes: Sequence[int] = (0, 1)) -> Spans:
    """The box of the MC-Net line: at least 96 voxels and a margin of 25 along `axes`, everything along the others.

    An object that resampling has lost leaves the scan whole.
    """
    if not axes or not mask.any():
        return tuple(slice(0, length) for length in mask.shape)
    box = padded_box(mask, [SIDE] * 3, [(MARGIN, MARGIN)] * 3)
    return tuple(box[axis] if axis in axes else slice(0, length) for axis, length in enumerate(mask.shape))


def coranet_box(mask: Array) -> Spans:
    """The box of the CoraNet line: from the first voxel to one past the end, with a margin of 25, at least 96 wide.

    A side that is still short grows by half on each side and is shifted inwards at the borders; where the volume
    itself is shorter, the box is the whole axis (`pad_to` does the rest).
    """
    first, last = bounds(mask)
    return tuple(_span(m, end, length) for m, end, length in zip(first, last, mask.shape, strict=True))


def _span(first: int, last: int, length: int) -> slice:
    start, stop = max(first - MARGIN, 0), min(last + 2 + MARGIN, length)
    short = SIDE - (stop - start)
    if short > 0:
        start, stop = start - short // 2, stop + short - short // 2
        shift = max(-start, 0) or min(length - stop, 0)
        start, stop = max(start + shift, 0), min(stop + shift, length)
    return slice(start, stop)


def pad_to(array: Array, side: int = SIDE) -> Array:
    """`array` with zeros at the end of every axis that is shorter than `side`."""
    return np.pad(array, [(0, max(side - length, 0)) for length in array.shape])
