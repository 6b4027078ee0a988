"""Average surface distance."""

from __future__ import annotations

from semiseg.metrics.base import Distance
from semiseg.metrics.surfaces import SurfaceDistances


class ASD(Distance):
    """Average surface distance in one direction, as `medpy.metric.binary.asd` and the papers of the field."""

    name = "asd"
    label = "ASD"
    definition = "mean distance from the surface of the prediction to the surface of the truth, this direction only"
    meaning = "mean distance of the predicted surface to the reference"
    position = 3

    def value(self, distances: SurfaceDistances) -> float:
        return float(distances.forward.sum() / distances.prediction_surface)
