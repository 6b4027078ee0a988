"""Where an image shows something: found from its intensities alone, never from a label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Box = tuple[tuple[int, int, int], tuple[int, int, int]]

_GRID = 128  # voxels per axis that an estimate looks at
_SPECKS = 0.0005  # share of a plane that noise may lift above the threshold
_MARGIN = 3


@dataclass(frozen=True)
class Foreground:
    """Where an image shows something.

    Attributes:
        thresholds: intensity per channel above which a voxel is foreground.
        box: first and one-past-last voxel per axis.
    """

    thresholds: tuple[float, ...]
    box: Box

    def along(self, axes: Sequence[int]) -> Foreground:
        """That of the image with its spatial axes in another order."""
        (a, b, c), (x, y, z) = (tuple(corner[axis] for axis in axes) for corner in self.box)
        return Foreground(self.thresholds, ((a, b, c), (x, y, z)))


def find_foreground(image: Array) -> Foreground:
    """Thresholds and box of an image `[C, X, Y, Z]`."""
    thresholds = tuple(foreground_threshold(channel) for channel in image)
    return Foreground(thresholds, foreground_box(image, thresholds))


def sample(channel: Array) -> Array:
    """An evenly spaced sub-grid of `channel` `[X, Y, Z]`, at most 128 voxels per axis (a view)."""
    return channel[tuple(slice(None, None, -(-side // _GRID)) for side in channel.shape)]


def foreground_threshold(channel: Array) -> float:
    """Intensity above which a voxel of `channel` `[X, Y, Z]` is foreground.

    Half-way from the darkest intensities to Otsu's threshold (IEEE Trans. SMC 9, 1979): above the noise of air, below
    the darker tissue that Otsu's threshold itself may cut off. Minus infinity when all voxels are equal.
    """
    values = sample(channel)
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    if low == high:
        low, high = float(channel.min()), float(channel.max())
    if low == high:
        return -np.inf
    return low + 0.5 * (_otsu(values, low, high) - low)


def _otsu(values: Array, low: float, high: float) -> float:
    counts, edges = np.histogram(np.clip(values, low, high), bins=256, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    split = (below > 0) & (above > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
    between = np.where(split, below.astype(float) * above * gap**2, 0.0)
    # Between two well separated peaks all thresholds are nearly as good; the middle one keeps clear of both.
    best = np.flatnonzero(between >= 0.99 * between.max())
    return float((edges[1 + best[0]] + edges[1 + best[-1]]) / 2)


def foreground_box(image: Array, thresholds: Sequence[float]) -> Box:
    """First and one-past-last voxel per axis of the foreground of any channel of `image` `[C, X, Y, Z]`.

    A plane counts as foreground when more than 0.05 % of its voxels are, so that single noisy voxels in air do not
    keep it; three planes of margin are added on each side. An image without any foreground is kept whole.
    """
    shape = image.shape[1:]
    order = sorted(range(3), key=lambda axis: -abs(image.strides[1 + axis]))  # planes that lie together in memory
    counts = _plane_counts(image.transpose(0, *(1 + axis for axis in order)), thresholds)
    spans = [_span(counts[order.index(axis)], math.prod(shape) / side) for axis, side in enumerate(shape)]
    start, stop = zip(*spans, strict=True)
    return start, stop


def _plane_counts(image: Array, thresholds: Sequence[float]) -> tuple[Array, Array, Array]:
    """Foreground voxels in each plane across each axis of `image` `[C, *S]`."""
    first = np.zeros(image.shape[1], dtype=np.int64)
    through = np.zeros(image.shape[2:], dtype=np.uint32)
    for index in range(len(first)):
        mask = image[0, index] > thresholds[0]
        for channel, threshold in zip(image[1:], thresholds[1:], strict=True):
            mask |= channel[index] > threshold
        first[index] = np.count_nonzero(mask)
        through += mask
    return first, through.sum(axis=1, dtype=np.int64), through.sum(axis=0, dtype=np.int64)


def _span(counts: Array, plane: float) -> tuple[int, int]:
    kept = np.flatnonzero(counts > _SPECKS * plane)
    if not len(kept):
        return 0, len(counts)
    return max(int(kept[0]) - _MARGIN, 0), min(int(kept[-1]) + 1 + _MARGIN, len(counts))
