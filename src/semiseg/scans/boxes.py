"""Boxes around what a mask marks, for arrays `[X, Y, Z]`."""

from __future__ import annotations

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
