"""The box around a label that some benchmarks cut out of every scan, test scans included."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from semiseg.data.foreground import Box

Array = np.ndarray[Any, np.dtype[Any]]
Margin = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
_Side = Annotated[int, Field(ge=1)]


class LabelCrop(BaseModel):
    """How the box is made; for replaying published protocols only, since it tells the test scans' answer in part.

    The box of the label is widened, half on each side, where it is smaller than `smallest`, and then by a margin that
    is drawn anew for each side, between both numbers of `margin`. Axes that are not in `axes` keep all their planes.

    Attributes:
        margin: fewest and most voxels, per stored axis; equal numbers for a fixed margin.
        smallest: sides that the box is widened to, stored axes; it stays smaller where the scan ends.
        axes: stored axes that are cropped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    margin: tuple[Margin, Margin, Margin]
    smallest: tuple[_Side, _Side, _Side]
    axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = (0, 1, 2)


def label_box(label: Array, how: LabelCrop) -> Box:
    """First and one-past-last voxel per axis of the box around `label` `[X, Y, Z]`; everything when it is empty.

    Margins are drawn by a generator that the box itself seeds, so that preparing and predicting cut the same.
    """
    if not label.any():
        return (0, 0, 0), _triple(label.shape)
    filled = [np.flatnonzero(label.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    lowest, highest = [int(f[0]) for f in filled], [int(f[-1]) for f in filled]
    rng = np.random.default_rng((*lowest, *highest))
    draws = [tuple(int(value) for value in rng.integers(low, high + 1, 2)) for low, high in how.margin]
    return widened(lowest, highest, draws, label.shape, how)


def widened(
    lowest: list[int], highest: list[int], draws: list[tuple[int, ...]], shape: tuple[int, ...], how: LabelCrop
) -> Box:
    """The box from `lowest` to `highest` voxel (inclusive) with drawn margins `(before, after)` per axis."""
    start, stop = [0, 0, 0], list(shape)
    for axis in how.axes:
        low, high, (before, after) = lowest[axis], highest[axis], draws[axis]
        padding = max(how.smallest[axis] - (high - low), 0) // 2
        start[axis] = max(low - before - padding, 0)
        stop[axis] = min(high + after + padding, shape[axis])
    return _triple(start), _triple(stop)


def _triple(values: Any) -> tuple[int, int, int]:
    first, second, third = (int(value) for value in values)
    return first, second, third
