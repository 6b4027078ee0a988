"""Overlap and surface-distance metrics of two binary masks, 2D or 3D, by the definitions of medpy.

"HD95" and "ASD" name different quantities in different libraries; `DEFINITIONS` says what they are here. They are those
of `medpy.metric.binary`, which the papers of the field report, computed from one pair of surfaces that is cut out of
the union box of the two masks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from semiseg.errors import InputError, did_you_mean
from semiseg.system.optional import optional

edt = optional("edt")  # scipy gives the same numbers

Mask = NDArray[np.bool_]
EmptyRule = Literal["official", "nan", "diagonal", "dhc"]

DEFINITIONS: Mapping[str, str] = MappingProxyType(
    {
        "dice": "2 |P and T| / (|P| + |T|)",
        "jaccard": "|P and T| / |P or T|",
        "hd95": "95th percentile (linear interpolation) of the surface distances of both directions pooled",
        "hd": "largest surface distance of both directions",
        "asd": "mean distance from the surface of the prediction to the surface of the truth, this direction only",
        "asd_reversed": "mean distance from the surface of the truth to the surface of the prediction",
        "assd": "mean of the surface distances of both directions pooled",
    }
)
"""Metric definitions; P is the prediction, T the truth. A surface voxel has a face neighbour outside its mask."""

EMPTY_RULES: Mapping[EmptyRule, str] = MappingProxyType(
    {
        "official": "any mask empty: every metric is 0, as the papers' code has it (this lowers mean distances)",
        "nan": "one mask empty: Dice and Jaccard 0, distances undefined; both empty: all undefined (skipped in means)",
        "diagonal": "one mask empty: Dice and Jaccard 0, distances the diagonal of the whole volume; "
        "both empty: all undefined (skipped in means)",
        "dhc": "one mask empty: Dice and Jaccard 0, distances 128; both empty: Dice and Jaccard 0.01, distances 0 "
        "(as DHC's code for AMOS and Synapse has it)",
    }
)

_DHC_ONE_EMPTY = 128.0
_DHC_BOTH_EMPTY = 0.01  # its script writes 1 where full marks are 100


@dataclass(frozen=True)
class Distances:
    """Surface distances in one unit, voxels or mm; see `DEFINITIONS`."""

    hd95: float
    hd: float
    asd: float
    asd_reversed: float
    assd: float

    @classmethod
    def all_equal(cls, value: float) -> Distances:
        """Every distance is `value`."""
        return cls(value, value, value, value, value)

    def scaled(self, factor: float) -> Distances:
        """The distances in a unit that is `factor` times smaller."""
        return Distances(
            self.hd95 * factor, self.hd * factor, self.asd * factor, self.asd_reversed * factor, self.assd * factor
        )


@dataclass(frozen=True)
class MaskScores:
    """All metrics of one pair of masks; `voxel` are distances in grid units, `mm` those with the spacing."""

    dice: float
    jaccard: float
    voxel: Distances
    mm: Distances
    prediction_voxels: int
    truth_voxels: int


def dice(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Dice coefficient of two masks of the same shape; nan when both are empty."""
    predicted, true = _pair(prediction, truth)
    size = np.count_nonzero(predicted) + np.count_nonzero(true)
    return float(2 * np.count_nonzero(predicted & true) / size) if size else math.nan


def overlap_and_surface(
    prediction: ArrayLike,
    truth: ArrayLike,
    spacing: Sequence[float] | None = None,
    *,
    empty: EmptyRule = "diagonal",
) -> MaskScores:
    """Dice, Jaccard and surface distances of two masks.

    Args:
        prediction: mask `[*S]`, 2D or 3D; what is not zero is foreground.
        truth: mask of the same shape.
        spacing: voxel size per axis in mm; 1 mm when not given.
        empty: what to do when a mask is empty, see `EMPTY_RULES`.

    Raises:
        InputError: shapes differ, the spacing does not fit, or the rule is unknown.
    """
    predicted, true = _pair(prediction, truth)
    steps = _checked_spacing(spacing, predicted.ndim)
    check_empty_rule(empty)
    sizes = int(np.count_nonzero(predicted)), int(np.count_nonzero(true))
    if 0 in sizes:
        return empty_scores(*sizes, predicted.shape, steps, empty)
    predicted, true = _crop_to_union(predicted, true)
    common = int(np.count_nonzero(predicted & true))
    surfaces = _surface(predicted), _surface(true)
    voxel = _distances(*surfaces, (1.0,) * predicted.ndim)
    mm = voxel.scaled(steps[0]) if len(set(steps)) == 1 else _distances(*surfaces, steps)
    return MaskScores(2 * common / sum(sizes), common / (sum(sizes) - common), voxel, mm, *sizes)


def empty_scores(
    prediction_voxels: int, truth_voxels: int, shape: Sequence[int], spacing: Sequence[float], empty: EmptyRule
) -> MaskScores:
    """Scores by the rule `empty` of two masks of which at least one has no voxel, in a volume of `shape`."""
    both = prediction_voxels == truth_voxels == 0
    if empty == "official":
        overlap, voxel, mm = 0.0, 0.0, 0.0
    elif empty == "dhc":
        overlap, voxel, mm = (_DHC_BOTH_EMPTY, 0.0, 0.0) if both else (0.0, _DHC_ONE_EMPTY, _DHC_ONE_EMPTY)
    elif both or empty == "nan":
        overlap, voxel, mm = math.nan if both else 0.0, math.nan, math.nan
    else:
        overlap, voxel, mm = 0.0, math.hypot(*shape), math.hypot(*np.multiply(shape, spacing))
    distances = Distances.all_equal(voxel), Distances.all_equal(mm)
    return MaskScores(overlap, overlap, *distances, prediction_voxels, truth_voxels)


def check_empty_rule(empty: str) -> None:
    """Refuse an unknown rule for empty masks with an `InputError`."""
    if empty not in get_args(EmptyRule):
        raise InputError(f"unknown rule for empty masks {empty!r}: {did_you_mean(empty, get_args(EmptyRule))}")


def _pair(prediction: ArrayLike, truth: ArrayLike) -> tuple[Mask, Mask]:
    predicted, true = np.asarray(prediction).astype(bool, copy=False), np.asarray(truth).astype(bool, copy=False)
    if predicted.shape != true.shape or predicted.ndim not in (2, 3):
        raise InputError(
            f"expected two masks of one shape with 2 or 3 axes, came {predicted.shape} and {true.shape}: "
            "give the masks of one class on the same grid"
        )
    return predicted, true


def _checked_spacing(spacing: Sequence[float] | None, axes: int) -> tuple[float, ...]:
    steps = (1.0,) * axes if spacing is None else tuple(float(step) for step in spacing)
    if len(steps) != axes or not all(math.isfinite(step) and step > 0 for step in steps):
        raise InputError(f"expected a spacing of {axes} positive numbers (mm), came {steps}")
    return steps


def _crop_to_union(predicted: Mask, true: Mask) -> tuple[Mask, Mask]:
    """Cut both masks to the box that holds them; outside it all is background, so no surface changes."""
    union = predicted | true
    box = []
    for axis in range(union.ndim):
        filled = np.flatnonzero(union.any(axis=tuple(other for other in range(union.ndim) if other != axis)))
        box.append(slice(filled[0], filled[-1] + 1))
    return predicted[tuple(box)], true[tuple(box)]


def _surface(mask: Mask) -> Mask:
    """Voxels of the mask with a face neighbour that is not in it; what is beyond the array is not in it."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        inner, whole = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        inner[1:] &= whole[:-1]
        inner[:-1] &= whole[1:]
        inner[[0, -1]] = False
    return mask & ~inside


def _distances(predicted: Mask, true: Mask, spacing: Sequence[float]) -> Distances:
    """Distances between two surfaces; voxels on both are at distance 0 and need no search."""
    forward = _nearest(predicted & ~true, true, spacing)
    backward = _nearest(true & ~predicted, predicted, spacing)
    sizes = np.count_nonzero(predicted), np.count_nonzero(true)
    pooled = np.zeros(sum(sizes))
    pooled[: len(forward)] = forward
    pooled[len(forward) : len(forward) + len(backward)] = backward
    return Distances(
        hd95=float(np.percentile(pooled, 95)),
        hd=float(pooled.max()),
        asd=float(forward.sum() / sizes[0]),
        asd_reversed=float(backward.sum() / sizes[1]),
        assd=float(pooled.mean()),
    )


def _nearest(points: Mask, targets: Mask, spacing: Sequence[float]) -> NDArray[np.float64]:
    """Distance from every voxel of `points` to the nearest of `targets`, by the faster of two exact ways.

    A search tree takes time by the voxels, a distance transform by the box: a few far false positives blow up the box
    but not the tree; noise is the other way round.
    """
    voxels_worth_a_searched_point = 8
    searched = np.count_nonzero(points) + np.count_nonzero(targets)
    dense = searched * voxels_worth_a_searched_point > points.size
    return (_nearest_by_transform if dense else _nearest_by_tree)(points, targets, spacing)


def _nearest_by_tree(points: Mask, targets: Mask, spacing: Sequence[float]) -> NDArray[np.float64]:
    tree = cKDTree(np.argwhere(targets) * np.asarray(spacing), leafsize=32, balanced_tree=False)
    return np.asarray(tree.query(np.argwhere(points) * np.asarray(spacing))[0])


def _nearest_by_transform(points: Mask, targets: Mask, spacing: Sequence[float]) -> NDArray[np.float64]:
    if edt is not None and set(spacing) == {1.0} and _exact_in_float32(targets.shape):
        squares = np.asarray(edt.edtsq(~targets, black_border=False, parallel=1))[points]
        return np.sqrt(squares.astype(np.float64))
    # Distances are formed from the indices at the points only: over the whole box they cost as much as the transform.
    nearest: Any = ndimage.distance_transform_edt(
        ~targets, sampling=spacing, return_distances=False, return_indices=True
    )
    where = np.nonzero(points)
    parts = [(step * (index[where] - at)) ** 2 for step, index, at in zip(spacing, nearest, where, strict=True)]
    return np.asarray(np.sqrt(np.sum(parts, axis=0)))


def _exact_in_float32(shape: Sequence[int]) -> bool:
    """Whether every squared distance in a box of `shape`, a whole number of voxels, is one of float32."""
    return sum(side * side for side in shape) <= 1 << 24
