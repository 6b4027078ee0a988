"""Average symmetric surface distance."""

from __future__ import annotations

from semiseg.metrics.base import Distance
from semiseg.metrics.surfaces import SurfaceDistances


class ASSD(Distance):
    """Average symmetric surface distance over the voxels of both surfaces."""

    name = "assd"
    label = "ASSD"
    definition = "mean of the surface distances of both directions pooled"
    in_tables = False
    position = 4

    def value(self, distances: SurfaceDistances) -> float:
        return float(distances.pooled.mean())
