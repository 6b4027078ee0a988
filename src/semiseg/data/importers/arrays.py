"""What the preprocessing scripts of several datasets share, as pure functions on arrays `[X, Y, Z]`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Spans = tuple[slice, ...]


def bounds(mask: Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First and last index of `mask` along each axis, both inclusive.

    Raises:
        ValueError: nothing is set.
    """
    found = [
        np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        for axis in range(mask.ndim)
    ]
    if not found[0].size:
        raise ValueError("the mask is empty")
    return tuple(int(line[0]) for line in found), tuple(int(line[-1]) for line in found)


def padded_box(mask: Array, size: Sequence[int], margins: Sequence[tuple[int, int]]) -> Spans:
    """The crop of the left-atrium and pancreas scripts: around `mask`, at least about `size`, with margins.

    Along each axis, with first and last index m and M: p = max(size - (M - m), 0) // 2, from m - p - margin to
    M + p + margin (exclusive), clipped to the volume.
    """
    first, last = bounds(mask)
    spans = []
    for m, end, side, (before, after), length in zip(first, last, size, margins, mask.shape, strict=True):
        padding = max(side - (end - m), 0) // 2
        spans.append(slice(max(m - padding - before, 0), min(end + padding + after, length)))
    return tuple(spans)


def window(values: Array, low: float, high: float) -> Array:
    """`values` clipped to `low ... high` and scaled to 0 ... 1, float32."""
    clipped = np.clip(values.astype(np.float32), low, high)
    return np.asarray((clipped - np.float32(low)) / np.float32(high - low))


def zscore(values: Array) -> Array:
    """Zero mean and unit (population) standard deviation over all voxels, float32; a constant becomes zero."""
    mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    return np.asarray((values - mean) / (std or 1.0), dtype=np.float32)


def crop_affine(affine: Array, spans: Spans) -> Array:
    """Affine `[4, 4]` of the part of a volume that `spans` cut out."""
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ [span.start or 0 for span in spans]
    return moved


def scale_affine(affine: Array, factors: Sequence[float]) -> Array:
    """Affine `[4, 4]` after voxel sides were multiplied by `factors`; the centre of the first voxel stays."""
    scaled: Array = affine @ np.diag([*factors, 1.0])
    return scaled


def reverse_axes(array: Array, affine: Array) -> tuple[Array, Array]:
    """`array` with its three axes in reverse order, (x, y, z) -> (z, y, x), and its affine."""
    return array.transpose(2, 1, 0), affine[:, [2, 1, 0, 3]]


def case_generator(seed: int, case: str) -> np.random.Generator:
    """Random numbers of one case, whatever other cases there are."""
    return np.random.default_rng([seed, *hashlib.sha256(case.encode()).digest()])
