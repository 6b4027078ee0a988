"""95 % Hausdorff distance."""

from __future__ import annotations

import numpy as np

from semiseg.metrics.base import Distance
from semiseg.metrics.surfaces import SurfaceDistances


class HD95(Distance):
    """95 % Hausdorff distance as `medpy.metric.binary.hd95`; MONAI's is the larger of the directed percentiles."""

    name = "hd95"
    label = "95HD"
    definition = "95th percentile (linear interpolation) of the surface distances of both directions pooled"
    meaning = "95 % of the two surfaces are closer than this"
    position = 2

    def value(self, distances: SurfaceDistances) -> float:
        return float(np.percentile(distances.pooled, 95))
