"""Jaccard index."""

from __future__ import annotations

from semiseg.metrics.base import Overlap
from semiseg.metrics.masks import MaskPair


class Jaccard(Overlap):
    """Jaccard index, intersection over union (Jaccard, Bull. Soc. Vaud. Sci. Nat. 37, 1901)."""

    name = "jaccard"
    label = "Jaccard"
    definition = "|P and T| / |P or T|"
    meaning = "voxels of both by voxels of either, 100 is perfect"
    position = 1

    def value(self, pair: MaskPair) -> float:
        return pair.common / (pair.prediction_voxels + pair.truth_voxels - pair.common)
