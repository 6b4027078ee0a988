"""Cuts through a scan and its labels, the right way up and in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Plane:
    """One cut through the volume, as it is drawn: the first axis to the right, the second up."""

    name: str
    image: Array
    truth: Array
    prediction: Array
    spacing: tuple[float, float]
    ends: tuple[str, str, str, str]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in mm."""
        width, height = self.image.shape
        return width * self.spacing[0], height * self.spacing[1]


@dataclass(frozen=True)
class Space:
    """Volumes the right way up.

    Attributes:
        volumes: each `[X, Y, Z]`, axes pointing right, anterior and superior when the affine is known.
        spacing: mm along these axes.
        ends: what lies at both ends of each axis; empty when unknown.
        names: of the planes across each axis.
    """

    volumes: Sequence[Array]
    spacing: Sequence[float]
    ends: Sequence[tuple[str, str]]
    names: tuple[str, str, str]


def upright(volumes: Sequence[Array], affine: Array | None) -> Space:
    """Volumes on one grid with axes that point right, anterior and superior; as stored without an affine."""
    if affine is None:
        return Space(volumes, (1.0, 1.0, 1.0), [("", "")] * 3, ("first axis", "second axis", "third axis"))
    orientation: Array = nib.orientations.io_orientation(affine)  # type: ignore[no-untyped-call]
    turned = [nib.orientations.apply_orientation(array, orientation) for array in volumes]  # type: ignore[no-untyped-call]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[np.argsort(orientation[:, 0])].tolist()
    return Space(turned, spacing, [("L", "R"), ("P", "A"), ("I", "S")], ("sagittal", "coronal", "axial"))


def cut_planes(volumes: Sequence[Array], affine: Array | None) -> list[Plane]:
    """The cuts to draw: those with most foreground, across each axis; one for a volume of a single slice.

    Axes point right, anterior and superior when the affine is known. The view is cut to the foreground with a margin.

    Args:
        volumes: image, truth and prediction, each `[X, Y, Z]`.
        affine: `[4, 4]`, voxel to RAS+ mm; without it axes stay as stored and voxels are cubes.
    """
    space = upright(volumes, affine)
    volumes, spacing, ends, names = space.volumes, space.spacing, space.ends, space.names
    shape = volumes[0].shape
    foreground = (volumes[1] > 0) | (volumes[2] > 0)
    view = view_box(foreground)
    thin = [axis for axis in range(3) if shape[axis] == 1]
    planes = []
    for across in thin[:1] or (2, 1, 0):
        right, up = (axis for axis in range(3) if axis != across)
        filled = foreground.sum(axis=(right, up))
        at = int(filled.argmax()) if filled.any() else filled.size // 2
        image, truth, prediction = (np.take(array, at, across)[view[right], view[up]] for array in volumes)
        name = "" if across in thin else f"{names[across]} {at + 1} of {shape[across]}"
        directions = (*ends[right], *ends[up])
        planes.append(Plane(name, image, truth, prediction, (spacing[right], spacing[up]), directions))
    return planes


def view_box(foreground: Array, margin: float = 0.35) -> list[slice]:
    """The box around the foreground with a margin of a share of its largest side; all when there is no foreground."""
    if not foreground.any():
        return [slice(0, side) for side in foreground.shape]
    points = np.argwhere(foreground)
    low, high = points.min(axis=0), points.max(axis=0) + 1
    extra = np.ceil(margin * (high - low)).astype(int) + 4
    return [slice(max(a - m, 0), min(b + m, s)) for a, b, m, s in zip(low, high, extra, foreground.shape, strict=True)]
