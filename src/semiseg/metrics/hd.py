"""Hausdorff distance."""

from __future__ import annotations

from semiseg.metrics.base import Distance
from semiseg.metrics.surfaces import SurfaceDistances


class HD(Distance):
    """Hausdorff distance, symmetric, as `medpy.metric.binary.hd`."""

    name = "hd"
    label = "HD"
    definition = "largest surface distance of both directions"
    in_tables = False
    position = 5

    def value(self, distances: SurfaceDistances) -> float:
        return float(distances.pooled.max())
