"""All metrics of a pair of masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from semiseg.metrics.base import columns, metrics
from semiseg.metrics.empty import EmptyPair, EmptyRule, check_empty_rule
from semiseg.metrics.masks import MaskPair


@dataclass(frozen=True)
class MaskScores:
    """Metrics of a pair of masks by the name of their column, such as `dice` and `hd95_mm`; NaN where undefined."""

    values: Mapping[str, float]
    prediction_voxels: int
    truth_voxels: int

    def __getitem__(self, column: str) -> float:
        return self.values[column]


def score_masks(
    prediction: ArrayLike,
    truth: ArrayLike,
    spacing: Sequence[float] | None = None,
    *,
    empty: EmptyRule = "diagonal",
) -> MaskScores:
    """Every metric of two masks.

    Args:
        prediction: mask `[*S]`, 2D or 3D; what is not zero is foreground.
        truth: mask of the same shape.
        spacing: voxel size per axis in mm; 1 mm when not given.
        empty: what to do when a mask is empty, see `EMPTY_RULES`.

    Raises:
        InputError: shapes differ, the spacing does not fit, or the rule is unknown.
    """
    pair = MaskPair.of(prediction, truth, spacing)
    check_empty_rule(empty)
    sizes = pair.prediction_voxels, pair.truth_voxels
    if 0 in sizes:
        return empty_scores(*sizes, pair.truth.shape, pair.spacing, empty)
    box = pair.cropped()
    return _named([metric.values(box) for metric in metrics()], *sizes)


def empty_scores(
    prediction_voxels: int, truth_voxels: int, shape: Sequence[int], spacing: Sequence[float], empty: EmptyRule
) -> MaskScores:
    """Scores by the rule `empty` of two masks of which at least one has no voxel, in a volume of `shape`."""
    pair = EmptyPair(empty, prediction_voxels == truth_voxels == 0, tuple(shape), tuple(spacing))
    return _named([metric.empty(pair) for metric in metrics()], prediction_voxels, truth_voxels)


def _named(found: Sequence[tuple[float, ...]], prediction_voxels: int, truth_voxels: int) -> MaskScores:
    values = [value for each in found for value in each]
    return MaskScores(dict(zip(columns(), values, strict=True)), prediction_voxels, truth_voxels)
