"""Where an image shows something: found from its intensities alone, never from a label.

Two levels answer two questions. What is cropped away must be air: everything above the *air level*, which the border of
the image tells, may be signal. What intensities are normalised by should be tissue: it lies above the *threshold*,
which the histogram tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Box = tuple[tuple[int, int, int], tuple[int, int, int]]

_GRID = 128  # voxels per axis that an estimate looks at
_SPECKS = 0.0005  # share of a plane that noise may lift above the air level
_MARGIN = 3
_DARKEST, _CLIPPED = 0.5, 97.0  # percent of the voxels that are as dark as air, and that are no hot spots
_ENOUGH = 1 << 17  # voxels that tell where air ends
_PADDED = 0.01  # share of equal, darkest voxels that noise alone does not make
_PLANE = 0.05  # share of a plane that is not padding and tells what its air is like
_EDGE = 0.1  # of a side, from its ends; what begins farther in than that is what was scanned
_DEVIATIONS = 6.0  # above the median of air, where its noise ends
_NORMAL = 1.4826  # standard deviation over the median of absolute deviations, of normal noise


@dataclass(frozen=True)
class Foreground:
    """Where an image shows something.

    Attributes:
        thresholds: intensity per channel above which a voxel is foreground: tissue that intensities are normalised by.
        box: first and one-past-last voxel per axis of what is not air.
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
    return Foreground(thresholds, foreground_box(image, [air_level(channel) for channel in image]))


def sample(channel: Array) -> Array:
    """An evenly spaced sub-grid of `channel` `[X, Y, Z]`, at most 128 voxels per axis (a view)."""
    return channel[tuple(slice(None, None, -(-side // _GRID)) for side in channel.shape)]


def foreground_threshold(channel: Array) -> float:
    """Intensity above which a voxel of `channel` `[X, Y, Z]` is foreground.

    Half-way from the darkest intensities to Otsu's threshold (IEEE Trans. SMC 9, 1979): above the noise of air, below
    the darker tissue that Otsu's threshold itself may cut off. Where that keeps less than 3 percent of the voxels,
    and less than half of what it keeps with the brightest 3 percent clipped, it parts a hot spot from tissue, and the
    latter is taken. Minus infinity when all voxels are equal.
    """
    values = sample(channel)
    low, clipped, high = (float(v) for v in np.percentile(values, (_DARKEST, _CLIPPED, 100 - _DARKEST)))
    if low == high:
        low, high = float(channel.min()), float(channel.max())
    if low == high:
        return -np.inf
    threshold = _half_way(values, low, high)
    kept = np.count_nonzero(values > threshold)
    if low < clipped < high and kept < (1 - _CLIPPED / 100) * values.size:
        darker = _half_way(values, low, clipped)
        if 2 * kept < np.count_nonzero(values > darker):
            return darker
    return threshold


def air_level(channel: Array) -> float:
    """Intensity that no air of `channel` `[X, Y, Z]` exceeds, its noise but for specks.

    It is that of padding (equal voxels, the darkest of all) or, where the darkest of the six outermost planes are those
    of air, six deviations above the median there. A border that shows tissue tells of no air: minus infinity, and
    nothing counts as air. Hot spots and shading change none of this, since the bright end is not looked at.
    """
    values, padding = sample(channel), float(channel.min())
    few = values.ravel(order="K")
    few = few[:: -(-few.size // _ENOUGH)]
    padded = np.mean(few == padding) >= _PADDED
    level, darkest = (padding, padding) if padded else (-np.inf, -np.inf)
    inside = few[few > darkest]
    if not inside.size:
        return padding
    low, clipped = (float(v) for v in np.percentile(inside, (_DARKEST, _CLIPPED)))
    if low == clipped:
        return level
    noise = min(map(_noise_end, _outermost(values, darkest)), default=np.inf)
    return noise if noise <= _half_way(inside, low, clipped) else level


def _outermost(values: Array, darkest: float) -> Iterator[Array]:
    """What exceeds `darkest` in the first and last planes across each axis that can tell of air."""
    for axis, side in enumerate(values.shape):
        planes = np.moveaxis(values, axis, 0)
        for way in (planes, planes[::-1]):
            known = (plane[plane > darkest] for plane in way[: int(_EDGE * side) + 1])
            yield from islice((air for air in known if air.size >= _PLANE * planes[0].size), 1)


def _noise_end(air: Array) -> float:
    middle = np.median(air)
    return float(middle + _DEVIATIONS * _NORMAL * np.median(np.abs(air - middle)))


def _half_way(values: Array, low: float, high: float) -> float:
    """Half-way from `low` to Otsu's threshold of `values` clipped to `low` ... `high`."""
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


def foreground_box(image: Array, levels: Sequence[float]) -> Box:
    """First and one-past-last voxel per axis of what exceeds its level in any channel of `image` `[C, X, Y, Z]`.

    A plane is kept when more than 0.05 % of its voxels are above, so that single noisy voxels in air do not keep it;
    above padding, which has no noise, one voxel is enough. Three planes of margin are added on each side. An image with
    nothing above is kept whole.
    """
    shape = image.shape[1:]
    order = sorted(range(3), key=lambda axis: -abs(image.strides[1 + axis]))  # planes that lie together in memory
    counts = _plane_counts(image.transpose(0, *(1 + axis for axis in order)), levels)
    noisy = any(level > channel.min() for channel, level in zip(image, levels, strict=True))
    specks = [_SPECKS * math.prod(shape) / side if noisy else 0.0 for side in shape]
    spans = [_span(counts[order.index(axis)], specks[axis]) for axis in range(3)]
    start, stop = zip(*spans, strict=True)
    return start, stop


def _plane_counts(image: Array, levels: Sequence[float]) -> tuple[Array, Array, Array]:
    """Voxels above their levels in each plane across each axis of `image` `[C, *S]`."""
    first = np.zeros(image.shape[1], dtype=np.int64)
    through = np.zeros(image.shape[2:], dtype=np.uint32)
    for index in range(len(first)):
        mask = image[0, index] > levels[0]
        for channel, level in zip(image[1:], levels[1:], strict=True):
            mask |= channel[index] > level
        first[index] = np.count_nonzero(mask)
        through += mask
    return first, through.sum(axis=1, dtype=np.int64), through.sum(axis=0, dtype=np.int64)


def _span(counts: Array, specks: float) -> tuple[int, int]:
    kept = np.flatnonzero(counts > specks)
    if not len(kept):
        return 0, len(counts)
    return max(int(kept[0]) - _MARGIN, 0), min(int(kept[-1]) + 1 + _MARGIN, len(counts))
