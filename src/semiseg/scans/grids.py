"""Grids of voxels in space: whether two are the same, and if not, what differs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

POSITION_TOLERANCE = 1e-3
"""Distance in mm between the corners of two grids that rounding explains."""
VOXEL_TOLERANCE = 0.1
"""Largest distance between the corners of two grids that count as one, in sides of a voxel."""
_TOLD = 0.01


@dataclass(frozen=True)
class Grid:
    """Sides in voxels, the affine `[4, 4]` (voxel indices -> RAS+ mm), and whether a file recorded it."""

    shape: tuple[int, int, int]
    affine: Array
    recorded: bool = True


def spacing_of(affine: Array) -> tuple[float, float, float]:
    """Voxel sides in mm of an affine `[4, 4]`."""
    x, y, z = (float(side) for side in np.linalg.norm(affine[:3, :3], axis=0))
    return x, y, z


def grid_problems(path: Path, grid: Grid, reference: Path, wanted: Grid) -> list[str]:
    """What sets the grid of `path` apart from that of `reference`; nothing when both are one.

    Grids are one when they have the same shape and their corner voxels lie within `VOXEL_TOLERANCE` (or
    `POSITION_TOLERANCE`): headers keep directions as rounded quaternions. Where one was not recorded, the shape must
    do.
    """
    if grid.shape != wanted.shape:
        return [
            f"{path}: expected shape {list(wanted.shape)} as {reference.name}, came {list(grid.shape)}: "
            f"resample it to the grid of {reference.name}"
        ]
    if not (grid.recorded and wanted.recorded):
        return []
    distance = _largest_distance(grid, wanted)
    if distance <= max(POSITION_TOLERANCE, VOXEL_TOLERANCE * min(spacing_of(wanted.affine))):
        return []
    return [
        f"{path}: expected the affine of {reference.name}, came another {_difference(grid.affine, wanted.affine)}, "
        f"voxels lie up to {distance:.4g} mm apart: resample it to the grid of {reference.name}, or copy the affine "
        "when only the header is wrong"
    ]


def nearly_one(path: Path, grid: Grid, reference: Path, wanted: Grid) -> list[str]:
    """What sets grids apart that count as one, where it is more than rounding: one line, or nothing."""
    if grid_problems(path, grid, reference, wanted) or not (grid.recorded and wanted.recorded):
        return []
    distance, side = _largest_distance(grid, wanted), min(spacing_of(wanted.affine))
    if distance <= max(POSITION_TOLERANCE, _TOLD * side):
        return []
    return [
        f"{path}: expected the affine of {reference.name}, came one whose voxels lie up to {distance:.4g} mm "
        f"({distance / side:.2g} of a voxel) apart: they count as one; copy the affine if both are of one scan"
    ]


def _largest_distance(grid: Grid, wanted: Grid) -> float:
    ends = [(0, side - 1) for side in grid.shape]
    corners = np.stack(np.meshgrid(*ends, [1], indexing="ij"), axis=-1).reshape(-1, 4)
    offsets = corners @ (grid.affine - wanted.affine).T
    return float(np.linalg.norm(offsets[:, :3], axis=1).max())


def _difference(affine: Array, wanted: Array) -> str:
    """The part that differs (spacing, direction or origin), and how."""
    sides, wanted_sides = np.array(spacing_of(affine)), np.array(spacing_of(wanted))
    if not np.allclose(sides, wanted_sides, rtol=1e-5, atol=0):
        return f"spacing ({_numbers(sides)} instead of {_numbers(wanted_sides)} mm)"
    if not np.allclose(affine[:3, :3] / sides, wanted[:3, :3] / wanted_sides, rtol=0, atol=1e-5):
        return f"direction (axes to {_axes(affine)} instead of {_axes(wanted)})"
    return f"origin ({_numbers(affine[:3, 3])} instead of {_numbers(wanted[:3, 3])} mm)"


def _axes(affine: Array) -> str:
    """Letters of the nearest anatomical directions, then the direction cosines of each axis."""
    letters = "".join(cast(Any, nib).aff2axcodes(affine))
    cosines = (affine[:3, :3] / np.array(spacing_of(affine))).T
    return f"{letters} [{'; '.join(_numbers(axis) for axis in cosines)}]"


def _numbers(values: Array) -> str:
    return ", ".join(f"{value:.5g}" for value in values)
