"""DTC: dual-task consistency."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from pydantic import Field

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sums import full_precision, probabilities
from semiseg.ingredients.losses import FORMS, soft_dice
from semiseg.ingredients.ramps import RampOptions
from semiseg.ingredients.signed_distance import signed_distances
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init
from semiseg.networks.distance import DistanceNet

OFFICIAL = {"ramp": "units150", "ramp_length": 40}
"""The published code, of 6,000 steps on the left atrium."""


@register("dtc", paper="arXiv:2009.04448", title="Dual-task consistency (DTC)")
@register("dtc-official", paper="arXiv:2009.04448", title="DTC as its published code has it", options=OFFICIAL)
class DTC(Method):
    """A second head tells the signed distance to the border; turned into a mask, it has to agree with the first head.

    On all patches, with gradient to both; the sigmoid that turns distances into masks is so steep that only voxels near
    the border that the second head sees move it. Supervised are Dice and the mean square of the distances, without
    cross-entropy, as in HiLab-git/DTC. That code knows one foreground class; here every foreground class has a distance
    of its own, and means are over classes. The slope asks for differences of 1/1500, so `precision: auto` is float32.
    Source: Luo et al., AAAI 2021.

        L = Dice(p, y) + b mean (T - G)^2 + w(t) mean (sigmoid(-k T) - p)^2
        T: predicted, G: true signed distances in [-1, 1], negative inside
    """

    precision = "fp32"

    class Config(RampOptions, MethodConfig):
        """Options; the defaults are those of the left atrium, with the ramp stretched to the length of the run."""

        distance_weight: float = Field(0.3, ge=0, description="b, weight of the supervised distances")
        steepness: float = Field(1500.0, gt=0, description="k, slope of the sigmoid that makes masks of distances")
        weight: float = Field(1.0, ge=0, description="weight of the consistency after the ramp-up")
        init: Init = Field("default", description="initialisation of the convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.classes = task.classes
        self.net = cast(DistanceNet, build(network="distance", maps=task.classes - 1, init=config.init))

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n = self.config, batch.n
        logits, distances = self.net.with_distances(batch.images)
        distances, p = full_precision(distances), probabilities(logits)[:, 1:]
        masks = torch.sigmoid(-c.steepness * distances)
        terms = {
            "supervised": soft_dice(logits[:n], batch.labels, FORMS["la"]),
            "distance": (distances[:n] - signed_distances(batch.labels, self.classes)).square().mean(),
            "consistency": (masks - p).square().mean(),
        }
        yield Loss(terms, {"distance": c.distance_weight, "consistency": c.weight * c.ramp_up(clock)})

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)
