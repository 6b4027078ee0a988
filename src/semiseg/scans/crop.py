"""The box around a label that some benchmarks cut out of every scan, test scans included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from semiseg.scans.boxes import bounds, padded_box
from semiseg.scans.foreground import Box

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
    first, last = bounds(label)
    rng = np.random.default_rng((*first, *last))
    margins = [(int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1))) for low, high in how.margin]
    spans = padded_box(label, how.smallest, margins)
    kept = [span if axis in how.axes else slice(0, label.shape[axis]) for axis, span in enumerate(spans)]
    return _triple([span.start for span in kept]), _triple([span.stop for span in kept])


def _triple(values: Sequence[int]) -> tuple[int, int, int]:
    first, second, third = values
    return first, second, third
