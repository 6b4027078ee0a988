"""Patch size and U-Net stages that suit a volume's shape and spacing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_SMALLEST_SIDE = 4
_SMALLEST_PATCH = 16
_MOST_STAGES = 6
_FIRST_FILTERS = 16
_MOST_FILTERS = {2: 512, 3: 256}
_PADDING = 0.15


@dataclass(frozen=True)
class Topology:
    """Patch sides, and per stage of the U-Net its strides and filters."""

    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    filters: tuple[int, ...]


def topology(shape: Sequence[int], spacing: Sequence[float], budget: int) -> Topology:
    """The largest patch of at most `budget` voxels, as cubic in mm as the median volume allows, and its stages.

    Args:
        shape: median volume in voxels, 2 or 3 axes.
        spacing: mm per axis.
        budget: most voxels of a patch.
    """
    # Two halvings (three stages) must be possible in the plane, so a smaller volume is padded there.
    whole = [float(max(side, _SMALLEST_PATCH if axis < 2 else 1)) for axis, side in enumerate(shape)]
    cube = max(side * mm for side, mm in zip(whole, spacing, strict=True))
    while True:
        wanted = [min(side, max(cube / mm, 1.0)) for side, mm in zip(whole, spacing, strict=True)]
        strides = stage_strides(wanted, spacing)
        total = [math.prod(stage[axis] for stage in strides) for axis in range(len(shape))]
        patch = tuple(_side(*axis) for axis in zip(wanted, whole, total, strict=True))
        if math.prod(patch) <= budget or math.prod(wanted) <= 1:
            break
        cube *= 0.99
    most = _MOST_FILTERS[len(shape)]
    return Topology(patch, strides, tuple(min(_FIRST_FILTERS << stage, most) for stage in range(len(strides))))


def stage_strides(sides: Sequence[float], spacing: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    """Halvings per stage: while at least 4 voxels remain, the coarser axes waiting until spacings are within 2 x."""
    left, mm = list(sides), list(spacing)
    strides = [(1,) * len(left)]
    while len(strides) < _MOST_STAGES:
        able = [axis for axis, side in enumerate(left) if side >= 2 * _SMALLEST_SIDE]
        if not able:
            break
        finest = min(mm[axis] for axis in able)
        stage = tuple(2 if axis in able and mm[axis] < 2 * finest else 1 for axis in range(len(left)))
        left = [side / stride for side, stride in zip(left, stage, strict=True)]
        mm = [size * stride for size, stride in zip(mm, stage, strict=True)]
        strides.append(stage)
    return tuple(strides)


def _side(wanted: float, whole: float, multiple: int) -> int:
    """`wanted` as a multiple of the total stride: up to cover a whole axis with little padding, else the nearest."""
    above = math.ceil(wanted / multiple - 1e-9) * multiple
    if wanted == whole and above <= (1 + _PADDING) * whole:
        return above
    if wanted == whole:
        return max(above - multiple, multiple)
    return max(round(wanted / multiple), 1) * multiple
