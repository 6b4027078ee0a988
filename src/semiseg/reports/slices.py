"""Slices of a scan with outlines of labels, small enough to travel inside a page.

Grey values become JPEG; outlines become paths on the grid of half voxels, so they stay sharp at any size and cost a few
hundred bytes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from semiseg.reports.planes import Array, Plane, outlines, upright, window

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
    """The cuts across one axis, from its first end to its last; `first` is the index of the one that is shown first."""

    plane: Plane
    slices: tuple[Slice, ...]
    first: int

    def words(self, cut: Slice) -> str:
        """Which of the plane's slices one is."""
        return f"{self.plane.name} {cut.number} of {self.plane.count}" if self.plane.name else "the slice"

    @property
    def sides(self) -> Iterator[tuple[str, float, float, str]]:
        """What lies at the borders of the view: name, place as a share of the panel, anchor."""
        places = ((0.03, 0.5, "start"), (0.97, 0.5, "end"), (0.5, 0.98, "middle"), (0.5, 0.055, "middle"))
        yield from ((name, *place) for name, place in zip(self.plane.ends, places, strict=False))

    @property
    def data(self) -> dict[str, object]:
        """All slices, as the script of the page reads them."""
        cuts = [{"n": cut.number, "i": cut.jpeg, "t": cut.truth, "p": cut.predictions} for cut in self.slices]
        return {"name": self.plane.name, "count": self.plane.count, "slices": cuts}


def cut_stacks(
    image: Array, truth: Array, predictions: Sequence[Array], affine: Array | None, *, most: int
) -> list[Stack]:
    """Slices through the foreground across each axis, the right way up; of an image of one slice, that slice.

    Args:
        image: `[X, Y, Z]`, one channel.
        truth: labels of the same shape; the number of paths follows from the largest label in all label maps.
        predictions: likewise, one per run.
        affine: `[4, 4]`, voxel to RAS+ mm; without it axes are shown as stored.
        most: slices per plane; of longer stacks evenly spread ones are taken, the fullest among them.
    """
    space = upright([image, truth, *predictions], affine)
    grey, *labels = space.volumes
    planes = space.planes(np.any([array > 0 for array in labels], axis=0))
    scale, classes = window(grey[planes[0].box]), range(1, max(int(array.max()) for array in labels) + 1)
    stacks = []
    for plane in planes:
        chosen, first = _choose(plane, most)
        slices = []
        for at in chosen:
            views = [plane.cut(array, at) for array in labels]
            truth_paths, *paths = [tuple(outline(view == label) for label in classes) for view in views]
            slices.append(Slice(at + 1, _jpeg(plane.cut(grey, at), scale), truth_paths, tuple(paths)))
        stacks.append(Stack(plane, tuple(slices), first))
    return stacks


def _choose(plane: Plane, most: int) -> tuple[list[int], int]:
    """Slices to show and the place of the fullest among them."""
    places = np.flatnonzero(plane.filled)
    if not len(places):
        return [plane.fullest], 0
    low, high = int(places[0]), int(places[-1])
    spread = np.linspace(low, high, min(most, high - low + 1)).round().astype(int)
    # The nearest of the evenly spread ones makes room for the fullest slice.
    nearest = int(np.abs(spread - plane.fullest).argmin())
    spread[nearest] = plane.fullest
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
    """The outlines of `mask` `[width, height]` as an SVG path in half voxels, y downwards; empty for an empty mask."""
    flip, shift = np.array((1, -1)), np.array((0, 2 * mask.shape[1]))
    return "".join(_path(np.rint(2 * line + 1).astype(int) * flip + shift) for line in outlines(mask))


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
