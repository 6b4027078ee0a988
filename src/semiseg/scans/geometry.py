"""From the grid of a scan to the grid of the store and back.

The stored grid has canonical axes (towards right, anterior, superior; the nearest ones for an oblique scan) in the
order that the plan says, is cropped to the foreground, and has the plan's spacing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import nibabel as nib
import numpy as np
from pydantic import BaseModel, ConfigDict

from semiseg.scans.foreground import Box
from semiseg.scans.resample import resample_label, zoom_nearest

Array = np.ndarray[Any, np.dtype[Any]]
Triple = tuple[int, int, int]

STRONGLY_ANISOTROPIC = 3.0


class Geometry(BaseModel):
    """What happened to a scan's grid, in the order in which it happened; enough to undo it.

    Attributes:
        shape: voxels of the scan, `[X, Y, Z]` as in its file.
        axes: axis of the scan that became stored axis 0, 1, 2.
        flips: whether that axis was reversed.
        start, stop: the kept box, in voxels of the scan along stored axes.
        stored: voxels of the stored grid.
        zoomed: whether slices were brought to a fixed size (`zoom_nearest`) instead of to a spacing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: Triple
    axes: Triple
    flips: tuple[bool, bool, bool]
    start: Triple
    stop: Triple
    stored: Triple
    zoomed: bool = False

    @property
    def cropped(self) -> Triple:
        """Voxels of the kept box along stored axes, before resampling."""
        x, y, z = (stop - start for start, stop in zip(self.start, self.stop, strict=True))
        return x, y, z


def orientation(affine: Array, transpose: Sequence[int] = (0, 1, 2)) -> tuple[Triple, tuple[bool, bool, bool]]:
    """Scan axis behind each stored axis, and whether it is reversed; `affine` maps voxels to RAS+ mm.

    Args:
        affine: `[4, 4]`.
        transpose: canonical axis that becomes stored axis 0, 1, 2.
    """
    codes: Array = nib.orientations.io_orientation(affine)  # type: ignore[no-untyped-call]
    found = [int(np.flatnonzero(codes[:, 0] == canonical)[0]) for canonical in transpose]
    flips = [bool(codes[axis, 1] < 0) for axis in found]
    return (found[0], found[1], found[2]), (flips[0], flips[1], flips[2])


def orient(array: Array, axes: Triple, flips: Sequence[bool]) -> Array:
    """A view of `array` `[..., X, Y, Z]` along stored axes."""
    lead = array.ndim - 3
    array = array.transpose(*range(lead), *(lead + axis for axis in axes))
    steps: Any = (..., *(slice(None, None, -1 if flip else 1) for flip in flips))
    view: Array = array[steps]
    return view


def crop(array: Array, box: Box) -> Array:
    """A view of the `box` of `array` `[..., X, Y, Z]`."""
    spans: Any = (..., *(slice(start, stop) for start, stop in zip(*box, strict=True)))
    view: Array = array[spans]
    return view


def stored_shape(
    shape: Sequence[int], spacing: Sequence[float], target: Sequence[float], dims: Literal[2, 3]
) -> Triple:
    """Voxels after resampling from `spacing` to `target` (mm); slices of a 2D plan stay as they are."""
    resampled = [max(round(n * old / new), 1) for n, old, new in zip(shape, spacing, target, strict=True)]
    return resampled[0], resampled[1], resampled[2] if dims == 3 else shape[2]


def image_orders(spacing: Sequence[float], target: Sequence[float]) -> Triple:
    """Order of interpolation per axis: cubic, but linear between far-apart slices.

    A cubic spline through slices that are more than three times as far apart as the voxels within them overshoots.
    """
    for grid in (spacing, target):
        if max(grid) > STRONGLY_ANISOTROPIC * min(grid):
            coarse = int(np.argmax(grid))
            return 1 if coarse == 0 else 3, 1 if coarse == 1 else 3, 1 if coarse == 2 else 3
    return 3, 3, 3


def label_to_stored(label: Array, geometry: Geometry) -> Array:
    """`label` `[X, Y, Z]` of the scan on the stored grid, dtype kept."""
    kept = crop(orient(label, geometry.axes, geometry.flips), (geometry.start, geometry.stop))
    resized = (zoom_nearest if geometry.zoomed else resample_label)(kept, geometry.stored)
    return np.ascontiguousarray(resized)


def restore_label(label: Array, geometry: Geometry) -> Array:
    """`label` `[X, Y, Z]` on the scan's grid, 0 outside of the kept box.

    Args:
        label: on the grid of the kept box, before resampling; slices of a fixed size as they are stored.
        geometry: of the scan.
    """
    kept = zoom_nearest(label, geometry.cropped) if geometry.zoomed else label
    if kept.shape != geometry.cropped:
        raise ValueError(f"expected a label {list(geometry.cropped)} on the grid before resampling, came {kept.shape}")
    result: Array = np.zeros(geometry.shape, dtype=label.dtype)
    crop(orient(result, geometry.axes, geometry.flips), (geometry.start, geometry.stop))[...] = kept
    return result
