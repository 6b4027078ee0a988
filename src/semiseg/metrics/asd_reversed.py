"""Average surface distance from the truth to the prediction."""

from __future__ import annotations

from semiseg.metrics.base import Distance
from semiseg.metrics.surfaces import SurfaceDistances


class ASDReversed(Distance):
    """Average surface distance in the other direction; high where parts of the truth are missed."""

    name = "asd_reversed"
    label = "ASD reversed"
    definition = "mean distance from the surface of the truth to the surface of the prediction"
    in_tables = False
    position = 6

    def value(self, distances: SurfaceDistances) -> float:
        return float(distances.backward.sum() / distances.truth_surface)
