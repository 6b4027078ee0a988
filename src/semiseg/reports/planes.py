"""Planes through a scan: the right way up, cut where most foreground is, with grey values and outlines to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray

Array = NDArray[Any]

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
"""Colours of classes 1, 2, ... (Okabe and Ito, told apart by colour-blind readers); then lighter, then darker ones."""


@dataclass(frozen=True)
class Plane:
    """The parallel cuts across one axis of a volume; in each the first remaining axis points right, the second up.

    Attributes:
        name: `axial`, ...; empty for a volume of a single slice.
        filled: foreground voxels of each cut.
        box: part of the volume that is shown.
        spacing: mm to the right and up.
        ends: left, right, bottom and top; empty where unknown.
    """

    across: int
    name: str
    filled: Array
    box: tuple[slice, ...]
    spacing: tuple[float, float]
    ends: tuple[str, ...]

    @property
    def count(self) -> int:
        """Cuts that the volume has."""
        return len(self.filled)

    @property
    def fullest(self) -> int:
        """Index of the cut with most foreground; the middle one where there is none."""
        return int(self.filled.argmax()) if self.filled.any() else self.count // 2

    @property
    def voxels(self) -> tuple[int, int]:
        """Width and height of the view."""
        width, height = (side.stop - side.start for axis, side in enumerate(self.box) if axis != self.across)
        return width, height

    @property
    def millimetres(self) -> tuple[float, float]:
        """Width and height of the view."""
        return self.voxels[0] * self.spacing[0], self.voxels[1] * self.spacing[1]

    def cut(self, volume: Array, at: int) -> Array:
        """The view `[width, height]` of one cut."""
        return volume[tuple(at if axis == self.across else side for axis, side in enumerate(self.box))]


@dataclass(frozen=True)
class Space:
    """Volumes on one grid.

    Attributes:
        volumes: each `[X, Y, Z]`.
        spacing: mm along these axes.
        ends: what lies at both ends of each axis; empty when unknown.
        names: of the planes across each axis.
    """

    volumes: Sequence[Array]
    spacing: Sequence[float]
    ends: Sequence[tuple[str, ...]] = ((), (), ())
    names: tuple[str, str, str] = ("first axis", "second axis", "third axis")

    def planes(self, foreground: Array, box: Sequence[slice] | None = None) -> list[Plane]:
        """The planes across each axis, or the one of a single slice, cropped to `box` (default: to the foreground)."""
        thin = [axis for axis in range(3) if foreground.shape[axis] == 1]
        view = tuple(box or view_box(foreground))
        planes = []
        for across in thin[:1] or (2, 1, 0):
            right, up = (axis for axis in range(3) if axis != across)
            filled, name = foreground.sum(axis=(right, up)), "" if thin else self.names[across]
            sides = self.spacing[right], self.spacing[up]
            planes.append(Plane(across, name, filled, view, sides, (*self.ends[right], *self.ends[up])))
        return planes


def upright(volumes: Sequence[Array], affine: Array | None) -> Space:
    """Volumes with axes that point right, anterior and superior; as stored, with cubic voxels, without an affine."""
    if affine is None:
        return Space(volumes, (1.0, 1.0, 1.0))
    orientation: Array = nib.orientations.io_orientation(affine)  # type: ignore[no-untyped-call]
    turned = [nib.orientations.apply_orientation(array, orientation) for array in volumes]  # type: ignore[no-untyped-call]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[np.argsort(orientation[:, 0])].tolist()
    return Space(turned, spacing, [("L", "R"), ("P", "A"), ("I", "S")], ("sagittal", "coronal", "axial"))


def view_box(foreground: Array, margin: float = 0.35) -> list[slice]:
    """The box around the foreground with a margin of a share of its sides; all when there is no foreground."""
    if not foreground.any():
        return [slice(0, side) for side in foreground.shape]
    points = np.argwhere(foreground)
    low, high = points.min(axis=0), points.max(axis=0) + 1
    extra = np.ceil(margin * (high - low)).astype(int) + 4
    return [slice(max(a - m, 0), min(b + m, s)) for a, b, m, s in zip(low, high, extra, foreground.shape, strict=True)]


def window(view: Array) -> tuple[float, float]:
    """Grey values of black and white: the 1st and the 99th percentile."""
    low, high = np.percentile(view, (1, 99)).tolist()
    return low, max(high, low + 1e-6)


def outlines(mask: Array) -> list[Array]:
    """Closed lines `[points, 2]` around `mask` `[width, height]`; the centre of voxel (0, 0) is (0, 0).

    Every line runs through the middle between a voxel inside and its neighbour outside.
    """
    if not mask.any():
        return []
    # The frame of background closes outlines at the border of the view.
    framed = np.pad(mask, 1).T.astype(np.float32)
    return [np.asarray(line) - 1 for line in contour_generator(z=framed).lines(0.5)]


def class_colour(label: int) -> str:
    """Colour of a class as `#rrggbb`; see `COLOURS`."""
    cycle, place = divmod(label - 1, len(COLOURS))
    towards, share = ((1.0, 0.0), (1.0, 0.45), (0.0, 0.45))[cycle % 3]
    parts = (int(COLOURS[place][at : at + 2], 16) / 255 for at in (1, 3, 5))
    return "#" + "".join(f"{round(255 * ((1 - share) * part + share * towards)):02x}" for part in parts)
