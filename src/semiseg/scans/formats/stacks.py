"""Slices of a DICOM scan in space, whether they are files or frames of one: their order, and what is no scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.errors import InputError
from semiseg.scans.formats.base import from_lps
from semiseg.scans.formats.dicom_elements import (
    BETWEEN,
    COUNT,
    INTERCEPT,
    OFFSETS,
    ORIENTATION,
    POSITION,
    SIDES,
    SLOPE,
    Elements,
    Tag,
)

Array = np.ndarray[Any, np.dtype[Any]]

_TOLERANCE = 0.05  # of the distance between slices
_NEAREST = 1e-3  # mm


@dataclass(frozen=True)
class Place:
    """Where a slice lies.

    Attributes:
        name: of its file, or number of its frame.
        index: in the order in which slices are stored.
        position: of its first voxel, LPS mm.
        orientation: directions of its rows and of its columns, `[2, 3]`.
        size: voxels along rows and columns.
    """

    name: str
    index: int
    position: Array
    orientation: Array
    size: tuple[int, ...]


def place(name: str, index: int, tags: Mapping[Tag, str], size: Sequence[int]) -> Place | None:
    """The place that the tags of a slice tell, if they do."""
    position, orientation = numbers(tags, POSITION, 3), numbers(tags, ORIENTATION, 6)
    if position is None or orientation is None:
        return None
    return Place(name, index, position, orientation.reshape(2, 3), tuple(size[:2]))


def in_order(path: Path, places: Sequence[Place], apart: str) -> list[Place]:
    """Slices along their normal.

    Args:
        path: what they belong to.
        places: slices in any order.
        apart: where slices of one place should be moved, each.

    Raises:
        InputError: there are gaps, doubled positions, or several sizes or orientations.
    """
    first = places[0]
    for other in places:
        same = np.allclose(other.orientation, first.orientation, atol=1e-3)
        if other.size != first.size or not same:
            raise InputError(
                f"{path}: expected slices of one size and orientation, came another in {other.name} than in "
                f"{first.name}: move what does not belong to the scan (localizers) elsewhere"
            )
    normal = np.cross(*first.orientation)
    ordered = sorted(places, key=lambda item: float(item.position @ normal))
    steps = np.diff([float(item.position @ normal) for item in ordered])
    usual = float(np.median(steps))
    if steps.min() < _NEAREST:
        at = int(steps.argmin())
        raise InputError(
            f"{path}: expected every slice at a place of its own, came {ordered[at].name} and "
            f"{ordered[at + 1].name} at one: these are time frames or echoes; move each to {apart} of its own"
        )
    if np.abs(steps - usual).max() > _TOLERANCE * usual:
        at = int(np.abs(steps - usual).argmax())
        raise InputError(
            f"{path}: expected slices {usual:.4g} mm apart as most are, came {steps[at]:.4g} mm between "
            f"{ordered[at].name} and {ordered[at + 1].name}: a slice is missing or superfluous; "
            "export the series again"
        )
    return ordered


def stack_affine(places: Sequence[Place], sides: Sequence[float]) -> Array:
    """From the positions of the first and the last slice, so that slices that are shifted stay in place.

    `sides` are mm along rows and columns.
    """
    first, last = places[0], places[-1]
    affine = np.eye(4)
    affine[:3, :2] = first.orientation.T * np.asarray(sides[:2])
    affine[:3, 2] = (last.position - first.position) / (len(places) - 1)
    affine[:3, 3] = first.position
    return from_lps(affine)


def frame_places(path: Path, elements: Elements, size: Sequence[int]) -> list[Place]:
    """Places of the frames of one file of `size` voxels along rows and columns and `size[2]` frames.

    They stand with each frame (enhanced objects), or follow from the place of the first one and the distances of all
    (doses) or of neighbours (nuclear medicine and older objects).

    Raises:
        InputError: the file does not say where its frames lie, or they are scaled or sized one by one.
    """
    count = int(size[2])
    if elements.frames:
        tags: Sequence[Mapping[Tag, str]] = elements.frames
        _check_alike(path, tags)
    else:
        tags = _spread(elements.tags, count)
    found = [place(f"frame {number + 1}", number, each, size) for number, each in enumerate(tags)]
    places = [each for each in found if each is not None]
    if len(places) != count or len(found) != count or str(count) != elements.tags.get(COUNT, str(count)):
        raise InputError(
            f"{path}: expected a file of {count} frames that says where each of them lies, came places of "
            f"{len(places)}: convert it to .nii.gz"
        )
    return places


def numbers(tags: Mapping[Tag, str], key: Tag, count: int) -> Array | None:
    """The `count` finite numbers of an element."""
    try:
        values = np.array([float(part) for part in tags.get(key, "").split("\\")])
    except ValueError:
        return None
    return values if values.size == count and np.isfinite(values).all() else None


def _spread(tags: Mapping[Tag, str], count: int) -> list[dict[Tag, str]]:
    """The place of each frame, from that of the first one."""
    first = place("", 0, tags, (1, 1))
    offsets, between = numbers(tags, OFFSETS, count), numbers(tags, BETWEEN, 1)
    if offsets is None and between is not None:
        offsets = np.arange(count) * between[0]
    if first is None or offsets is None:
        return []
    normal = np.cross(*first.orientation)
    places = first.position + (offsets - offsets[0])[:, None] * normal
    return [{**tags, POSITION: "\\".join(map(repr, each.tolist()))} for each in places]


def _check_alike(path: Path, frames: Sequence[Mapping[Tag, str]]) -> None:
    """Refuse frames with scalings or voxel sides of their own: GDCM takes those of the first one for all."""
    for keys, what in (((SLOPE, INTERCEPT), "scaling of intensities"), ((SIDES,), "size of voxels")):
        if len({tuple(_parsed(frame, key) for key in keys) for frame in frames}) > 1:
            raise InputError(
                f"{path}: expected one {what} for all frames, came several: write every slice to a file of its own, "
                "or convert it to .nii.gz"
            )


def _parsed(tags: Mapping[Tag, str], key: Tag) -> tuple[float, ...] | str:
    value = tags.get(key, "")
    found = numbers(tags, key, value.count("\\") + 1)
    return value if found is None else tuple(found.tolist())
