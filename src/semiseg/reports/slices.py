"""Slices of a scan in three planes with outlines of labels, small enough to travel inside a page.

Grey values become JPEG; outlines become paths on the grid of half voxels, so they stay sharp at any size and cost a few
hundred bytes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from PIL import Image

from semiseg.evaluation.planes import Space, upright, view_box

Array = NDArray[Any]

LARGEST, QUALITY = 240, 70
"""Most pixels along a side of a picture, and its JPEG quality."""


@dataclass(frozen=True)
class Slice:
    """One cut.

    Attributes:
        number: counted from 1 along its axis.
        jpeg: base64.
        truth: an SVG path per foreground class; empty where the class is not.
        predictions: likewise, per run.
    """

    number: int
    jpeg: str
    truth: tuple[str, ...]
    predictions: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Stack:
    """The cuts across one axis, from its first end to its last.

    Attributes:
        name: `axial`, ...; empty for images of a single slice.
        count: slices that the scan has along this axis.
        first: index in `slices` of the one with most foreground, which is shown first.
        voxels: width and height of the view.
        millimetres: the same in mm.
        ends: left, right, bottom and top.
    """

    name: str
    count: int
    slices: tuple[Slice, ...]
    first: int
    voxels: tuple[int, int]
    millimetres: tuple[float, float]
    ends: tuple[str, str, str, str]


def cut_stacks(
    image: Array, truth: Array, predictions: Sequence[Array], affine: Array | None, *, most: int
) -> list[Stack]:
    """Cuts across every axis through the foreground of reference and predictions.

    The view is cut to the foreground with a margin; grey values run from the 1st to the 99th percentile in it.

    Args:
        image: `[X, Y, Z]`, one channel.
        truth: labels of the same shape; the number of paths follows from the largest label in all label maps.
        predictions: likewise, one per run.
        affine: `[4, 4]`, voxel to RAS+ mm; without it axes are shown as stored.
        most: slices per plane; of longer stacks evenly spread ones are taken, the fullest among them.
    """
    space = upright([image, truth, *predictions], affine)
    foreground = np.any([labels > 0 for labels in space.volumes[1:]], axis=0)
    box = tuple(view_box(foreground))
    scale = _window(space.volumes[0][box])
    classes = max(int(labels.max()) for labels in space.volumes[1:])
    shape = space.volumes[0].shape
    thin = [axis for axis in range(3) if shape[axis] == 1]
    return [_stack(space, axis, box, foreground, scale, classes, most) for axis in (thin[:1] or (2, 1, 0))]


def _window(view: Array) -> tuple[float, float]:
    low, high = np.percentile(view, (1, 99)).tolist()
    return low, max(high, low + 1e-6)


def _stack(
    space: Space,
    across: int,
    box: tuple[slice, ...],
    foreground: Array,
    scale: tuple[float, float],
    classes: int,
    most: int,
) -> Stack:
    right, up = (axis for axis in range(3) if axis != across)
    count = foreground.shape[across]
    chosen, first = _choose(foreground.sum(axis=(right, up)), most)
    slices = []
    for at in chosen:
        here = tuple(at if axis == across else side for axis, side in enumerate(box))
        image, *labels = (array[here] for array in space.volumes)
        paths = [tuple(outline(array == label) for label in range(1, classes + 1)) for array in labels]
        slices.append(Slice(at + 1, _jpeg(image, scale), paths[0], tuple(paths[1:])))
    width, height = (box[axis].stop - box[axis].start for axis in (right, up))
    return Stack(
        "" if count == 1 else space.names[across],
        count,
        tuple(slices),
        first,
        (width, height),
        (width * space.spacing[right], height * space.spacing[up]),
        (*space.ends[right], *space.ends[up]),
    )


def _choose(filled: Array, most: int) -> tuple[list[int], int]:
    """Slices to show and the place of the fullest among them; the middle one where there is no foreground."""
    places = np.flatnonzero(filled)
    if not len(places):
        return [len(filled) // 2], 0
    low, high, fullest = int(places[0]), int(places[-1]), int(filled.argmax())
    spread = np.linspace(low, high, min(most, high - low + 1)).round().astype(int)
    # The nearest of the evenly spread ones makes room for the fullest slice.
    nearest = int(np.abs(spread - fullest).argmin())
    spread[nearest] = fullest
    return spread.tolist(), nearest


def _jpeg(view: Array, scale: tuple[float, float]) -> str:
    low, high = scale
    grey = np.clip((view.astype(np.float32) - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(grey.T[::-1]))
    picture.thumbnail((LARGEST, LARGEST))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def outline(mask: Array) -> str:
    """The outlines of `mask` `[width, height]` as an SVG path in half voxels, y downwards; empty for an empty mask.

    Every line runs through the middle between a voxel inside and its neighbour outside.
    """
    if not mask.any():
        return ""
    # The frame of background closes outlines at the border of the view.
    framed = np.pad(mask, 1).T.astype(np.float32)
    height = mask.shape[1]
    parts = []
    for line in contour_generator(z=framed).lines(0.5):
        points = np.rint(2 * np.asarray(line) - 1).astype(int)
        points[:, 1] = 2 * height - points[:, 1]
        parts.append(_path(points))
    return "".join(parts)


def _path(points: Array) -> str:
    """A closed path; points on a straight line between their neighbours are left out."""
    moves = np.diff(points, axis=0)
    moves = moves[np.any(moves != 0, axis=1)]
    runs: list[list[int]] = []
    for dx, dy in moves.tolist():
        if runs and runs[-1][0] * dy == runs[-1][1] * dx and runs[-1][0] * dx + runs[-1][1] * dy > 0:
            runs[-1][0] += dx
            runs[-1][1] += dy
        else:
            runs.append([dx, dy])
    x, y = points[0].tolist()
    return f"M{x} {y}l" + " ".join(f"{dx} {dy}" for dx, dy in runs[:-1]) + "z"
