"""Soft solids on a warped voxel grid: deformed ellipsoids and tubes, as distances to their surface.

All lengths are millimetres of the reference body (see `anatomy`): x to the patient's right, y forwards, z up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline, CubicSpline
from scipy.spatial.transform import Rotation

Array = NDArray[np.float32]
Point = tuple[float, float, float]
Box = tuple[slice, slice, slice]
FAR = 1e4
"""Distance that stands for 'nowhere near'."""


@dataclass(frozen=True)
class Blob:
    """An ellipsoid; `turn` holds Euler angles (x, y, z) in degrees."""

    centre: Point
    radii: Point
    turn: Point = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Tube:
    """A smooth tube through `points`, with one radius per point."""

    points: tuple[Point, ...]
    radii: tuple[float, ...]


Shape = Blob | Tube


@dataclass(frozen=True)
class Part:
    """A piece of one tissue: the union of `add` without `cut`.

    Attributes:
        tissue: what it looks like.
        organ: whose label it gets; `None` for background.
        inside: whether it ends at the inner face of the abdominal wall; if not, at its outer face.
    """

    tissue: str
    add: tuple[Shape, ...]
    cut: tuple[Shape, ...] = ()
    organ: str | None = None
    inside: bool = True


@dataclass(frozen=True)
class Group:
    """Parts that vary together.

    Attributes:
        parts: what is painted, in order.
        shift: standard deviation of the place, mm.
        size: standard deviation of the logarithm of the size.
        turn: standard deviation of the rotation, degrees.
        level: height at which a two-dimensional picture cuts it if it is no organ, mm.
    """

    parts: tuple[Part, ...]
    shift: float = 6.0
    size: float = 0.1
    turn: float = 8.0
    level: float = 74.0

    @property
    def organ(self) -> str | None:
        """The organ that the group shows; `None` for background."""
        return self.parts[0].organ

    @property
    def middle(self) -> NDArray[np.float64]:
        """The middle of what it paints first, mm."""
        points = [
            np.mean(shape.points, axis=0) if isinstance(shape, Tube) else shape.centre for shape in self.parts[0].add
        ]
        middle: NDArray[np.float64] = np.mean(points, axis=0, dtype=float)
        return middle


def vary(group: Group, rng: np.random.Generator) -> Group:
    """The group of one patient: moved, scaled, turned and bent at random, all its parts alike."""
    pivot, shift = group.middle, rng.normal(0, group.shift, 3)
    size, stretch = float(np.exp(rng.normal(0, group.size))), np.exp(rng.normal(0, group.size / 2, 3))
    turn = Rotation.from_euler("xyz", rng.normal(0, group.turn, 3), degrees=True)
    bend = rng.normal(0, group.shift / 3, 3)

    def place(points: Any) -> Any:
        offsets = (np.asarray(points, dtype=float) - pivot) * size * stretch
        # A parabola along x bends long organs and merely moves short ones.
        turned = turn.apply(offsets + bend * ((offsets[..., :1] / 50.0) ** 2))
        return turned + pivot + shift

    def moved(shape: Shape) -> Shape:
        if isinstance(shape, Tube):
            return Tube(_points(place(shape.points)), tuple(r * size * float(stretch[1]) for r in shape.radii))
        first = Rotation.from_euler("xyz", shape.turn, degrees=True)
        turned = (turn * first).as_euler("xyz", degrees=True)
        return Blob(*_points([*place([shape.centre]), np.multiply(shape.radii, size * stretch), turned]))

    return _each_shape(group, moved)


def shifted(group: Group, by: Sequence[float]) -> Group:
    """The group, moved by `by` millimetres."""

    def moved(shape: Shape) -> Shape:
        if isinstance(shape, Tube):
            return replace(shape, points=_points(np.add(shape.points, by)))
        return replace(shape, centre=_points([np.add(shape.centre, by)])[0])

    return _each_shape(group, moved)


def _each_shape(group: Group, change: Callable[[Shape], Shape]) -> Group:
    parts = (replace(p, add=tuple(map(change, p.add)), cut=tuple(map(change, p.cut))) for p in group.parts)
    return replace(group, parts=tuple(parts))


def _points(rows: Any) -> tuple[Point, ...]:
    return tuple((float(x), float(y), float(z)) for x, y, z in rows)


def smooth_field(rng: np.random.Generator, shape: Sequence[int], knots: Sequence[int]) -> Array:
    """A random field with standard deviation of about one: a cubic B-spline over `knots` intervals per axis."""
    field: NDArray[Any] = rng.normal(size=[k + 3 for k in knots]) * 1.5 ** sum(side > 1 for side in shape)
    for axis, (side, intervals) in enumerate(zip(shape, knots, strict=True)):
        if side == 1:
            field = field.take([0], axis=axis)
            continue
        positions = (np.arange(side) + 0.5) / side * intervals
        weights = BSpline.design_matrix(positions, np.arange(-3, intervals + 4, dtype=float), 3).toarray()
        field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)
    return field.astype(np.float32)


class Canvas:
    """Millimetre coordinates of every voxel, displaced by a smooth warp, and distances of solids to them."""

    def __init__(self, axes: tuple[Array, Array, Array], warp: Array) -> None:
        """`axes` are voxel centres per axis; `warp` `[3, X, Y, Z]` displaces them."""
        self.axes = axes
        grids = np.meshgrid(*axes, indexing="ij", sparse=True)
        self.coordinates = tuple((grid + shift).astype(np.float32) for grid, shift in zip(grids, warp, strict=True))
        self.shape = self.coordinates[0].shape
        widths = [float(axis[1] - axis[0]) for axis in axes if len(axis) > 1]
        self.voxel = float(np.prod(widths) ** (1 / len(widths)))
        self._reach = np.abs(warp).reshape(3, -1).max(axis=1) + self.voxel

    def box(self, lower: Any, upper: Any) -> Box:
        """Voxels that the warp can bring between two corners."""
        bounds = []
        for axis, low, high, reach in zip(self.axes, lower, upper, self._reach, strict=True):
            bounds.append(slice(*np.searchsorted(axis, [low - reach, high + reach]).tolist()))
        return bounds[0], bounds[1], bounds[2]

    def distance(self, part: Part) -> tuple[Box, Array]:
        """Signed distance (negative inside) to the surface of `part`, in the box that holds it."""
        pieces = [piece for shape in part.add for piece in self._pieces(shape)]
        if not pieces:
            return (slice(0), slice(0), slice(0)), np.empty((0, 0, 0), np.float32)
        total = np.full(self.shape, FAR, np.float32)
        for box, piece in pieces:
            np.minimum(total[box], piece, out=total[box])
        for box, piece in (piece for shape in part.cut for piece in self._pieces(shape)):
            np.maximum(total[box], -piece, out=total[box])
        x, y, z = (slice(min(b[k].start for b, _ in pieces), max(b[k].stop for b, _ in pieces)) for k in range(3))
        return (x, y, z), total[x, y, z]

    def _pieces(self, shape: Shape) -> list[tuple[Box, Array]]:
        found = self._segments(shape) if isinstance(shape, Tube) else [self._blob(shape)]
        return [(box, piece) for box, piece in found if piece.size]

    def _blob(self, blob: Blob) -> tuple[Box, Array]:
        reach = max(blob.radii) if any(blob.turn) else np.asarray(blob.radii)
        box = self.box(np.subtract(blob.centre, reach), np.add(blob.centre, reach))
        offsets = [c[box] - np.float32(m) for c, m in zip(self.coordinates, blob.centre, strict=True)]
        if any(blob.turn):
            inverse = Rotation.from_euler("xyz", blob.turn, degrees=True).as_matrix().T.astype(np.float32)
            offsets = [sum(w * o for w, o in zip(row, offsets, strict=True)) for row in inverse]
        squares = [(o / np.float32(r)) ** 2 for o, r in zip(offsets, blob.radii, strict=True)]
        level = np.sqrt(squares[0] + squares[1] + squares[2]) + np.float32(1e-6)
        slope = np.sqrt(sum(q / np.float32(r) ** 2 for q, r in zip(squares, blob.radii, strict=True))) + np.float32(
            1e-6
        )
        return box, (level - 1) * level / slope

    def _segments(self, tube: Tube) -> list[tuple[Box, Array]]:
        points, radii = np.asarray(tube.points, dtype=float), np.asarray(tube.radii, dtype=float)
        if len(points) > 2:
            knots = np.arange(len(points))
            fine = np.linspace(0, len(points) - 1, 3 * (len(points) - 1) + 1)
            points, radii = CubicSpline(knots, points)(fine), np.interp(fine, knots, radii)
        # A tube thinner than a voxel would come out as a string of beads.
        radii = np.maximum(radii, 0.55 * self.voxel)
        ends = zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True)
        return [self._segment(*end) for end in ends]

    def _segment(self, start: Any, end: Any, thick: float, thin: float) -> tuple[Box, Array]:
        widest = max(thick, thin)
        box = self.box(np.minimum(start, end) - widest, np.maximum(start, end) + widest)
        x, y, z = (c[box] - np.float32(s) for c, s in zip(self.coordinates, start, strict=True))
        a, b, c = (np.float32(value) for value in np.subtract(end, start))
        along = (x * a + y * b + z * c) / (a * a + b * b + c * c + np.float32(1e-6))
        np.clip(along, 0, 1, out=along)
        apart = np.sqrt((x - along * a) ** 2 + (y - along * b) ** 2 + (z - along * c) ** 2)
        return box, apart - (np.float32(thick) + along * np.float32(thin - thick))
