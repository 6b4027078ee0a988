"""Where an image shows something: found from its intensities alone, never from a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Box = tuple[tuple[int, int, int], tuple[int, int, int]]

_GRID = 128  # voxels per axis that an estimate looks at
_SPECKS = 0.0005  # share of a plane that noise may lift above the threshold
_MARGIN = 3


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
    counts = [np.zeros(side, dtype=np.int64) for side in shape]
    for x in range(shape[0]):
        mask = np.zeros(shape[1:], dtype=bool)
        for channel, threshold in zip(image, thresholds, strict=True):
            mask |= channel[x] > threshold
        counts[0][x] = np.count_nonzero(mask)
        counts[1] += np.count_nonzero(mask, axis=1)
        counts[2] += np.count_nonzero(mask, axis=0)
    planes = np.prod(shape) / np.array(shape)
    spans = [_span(count, float(plane)) for count, plane in zip(counts, planes, strict=True)]
    start, stop = zip(*spans, strict=True)
    return start, stop


def _span(counts: Array, plane: float) -> tuple[int, int]:
    kept = np.flatnonzero(counts > _SPECKS * plane)
    if not len(kept):
        return 0, len(counts)
    return max(int(kept[0]) - _MARGIN, 0), min(int(kept[-1]) + 1 + _MARGIN, len(counts))
