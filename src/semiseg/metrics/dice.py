"""Dice coefficient."""

from __future__ import annotations

import math

from numpy.typing import ArrayLike

from semiseg.metrics.base import Overlap
from semiseg.metrics.masks import MaskPair


class Dice(Overlap):
    """Dice coefficient (Dice, Measures of the amount of ecologic association between species, Ecology 26, 1945)."""

    name = "dice"
    label = "Dice"
    definition = "2 |P and T| / (|P| + |T|)"
    meaning = "overlap of prediction and reference, 100 is perfect"
    position = 0

    def value(self, pair: MaskPair) -> float:
        return 2 * pair.common / (pair.prediction_voxels + pair.truth_voxels)


def dice(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Dice coefficient of two masks of the same shape; NaN when both are empty.

    Raises:
        InputError: shapes differ, or are not 2D or 3D.
    """
    pair = MaskPair.of(prediction, truth)
    return Dice().value(pair) if pair.prediction_voxels or pair.truth_voxels else math.nan
