"""Paint of solids on a voxel grid: grey values, texture and labels, mixed where a solid covers half a voxel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from semiseg.phantom.shapes import FAR, Array, Blob, Box, Canvas, Group, Part
from semiseg.phantom.tissues import Look


class Painting:
    """One patient: `grey` values and `texture` strength in HU, and `label`, each `[X, Y, Z]`."""

    def __init__(self, canvas: Canvas, looks: Mapping[str, Look], class_names: Sequence[str]) -> None:
        self.grey = np.full(canvas.shape, looks["air"].grey, np.float32)
        self.texture = np.zeros(canvas.shape, np.float32)
        self.label: NDArray[np.uint8] = np.zeros(canvas.shape, np.uint8)
        self._canvas, self._looks = canvas, looks
        self._values = {name: value for value, name in enumerate(class_names)}
        self._wall: dict[bool, Array] = {}
        self._organs: dict[int, tuple[Part, Box, Array]] = {}

    def body(self, rng: np.random.Generator) -> None:
        """Fat, muscle wall and the fat inside; later parts end at the wall's inner or outer face."""
        width, depth = np.array([170.0, 118.0]) * np.exp(rng.normal(0, 0.03, 2))
        fat = min(16 * float(np.exp(rng.normal(0, 0.4))), 30.0)
        muscle = 11 * float(np.exp(rng.normal(0, 0.2)))
        for inset, tissue, inside in ((0.0, "fat", None), (fat, "muscle", False), (fat + muscle, "fat", True)):
            solid = Blob((0.0, 0.0, 0.0), (float(width - inset), float(depth - 0.8 * inset), FAR))
            box, distance = self._canvas.distance(Part(tissue, (solid,)))
            self._lay(box, self._cover(distance), tissue, 0)
            if inside is not None:
                self._wall[inside] = np.full(self._canvas.shape, FAR, np.float32)
                self._wall[inside][box] = distance

    def group(self, group: Group) -> None:
        """The parts of `group`, each over what is there."""
        for part in group.parts:
            box, distance = self._canvas.distance(part)
            if not distance.size:
                continue
            value = self._values.get(part.organ or "", 0)
            self._lay(box, self._cover(np.maximum(distance, self._wall[part.inside][box])), part.tissue, value)
            if value:
                self._organs.setdefault(value, (part, box, distance))

    def keep_visible(self) -> None:
        """Give each organ that the grid or its neighbours swallowed the voxel nearest to its core."""
        for value, (part, box, distance) in self._organs.items():
            if (self.label == value).any():
                continue
            counts = np.bincount(self.label.ravel(), minlength=256)
            taken = (self.label[box] > 0) & (counts[self.label[box]] < 2)
            cover = np.zeros_like(distance)
            cover[np.unravel_index(np.argmin(distance + 1e3 * taken), distance.shape)] = 1
            self._lay(box, cover, part.tissue, value)

    def _cover(self, distance: Array) -> Array:
        cover: Array = np.clip(0.5 - distance / self._canvas.voxel, 0, 1)
        return cover

    def _lay(self, box: Box, cover: Array, tissue: str, value: int) -> None:
        """Lay a tissue over `box`: a voxel half covered gets half of the grey value, one covered more the label."""
        look = self._looks[tissue]
        self.grey[box] += cover * (np.float32(look.grey) - self.grey[box])
        self.texture[box] += cover * (np.float32(look.texture) - self.texture[box])
        self.label[box][cover > 0.5] = value
