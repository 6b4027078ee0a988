"""SASSNet: shape-aware segmentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
from pydantic import Field
from torch import nn

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.discrimination import deception_loss, discrimination_loss
from semiseg.ingredients.losses import FORMS, soft_dice
from semiseg.ingredients.modes import evaluating
from semiseg.ingredients.ramps import RampOptions
from semiseg.ingredients.signed_distance import signed_distances
from semiseg.methods.base import (
    Clock,
    Loss,
    Method,
    MethodConfig,
    NetworkBuilder,
    OwnOptimiser,
    Predicting,
    Task,
    register,
)
from semiseg.networks.base import Init
from semiseg.networks.discriminator import Discriminator
from semiseg.networks.distance import DistanceNet

OFFICIAL = {"ramp": "units150", "ramp_length": 40}
"""The published code, of 6,000 steps on the left atrium."""


@register("sassnet", paper="arXiv:2007.10732", title="Shape-aware semi-supervised 3D segmentation (SASSNet)")
@register("sassnet-official", paper="arXiv:2007.10732", title="SASSNet as its published code has it", options=OFFICIAL)
class SASSNet(Method):
    """A second head tells signed distances; a discriminator learns which of them belong to labelled images.

    The network learns to make those of unlabelled images pass for labelled ones, whose shapes are right. Supervised are
    Dice and the mean square of the distances, without cross-entropy, as in kleinzcy/SASSnet. The discriminator has Adam
    with a rate of its own and is updated after the network, whose new predictions it sees in evaluation mode. That code
    knows one foreground class in 3D; here every foreground class has a distance of its own, and slices have the
    discriminator of DAN's 2D form. Source: Li et al., MICCAI 2020.

        L   = Dice(p, y) + b mean (T - G)^2 + w(t) CE(D(T, x), labelled)         D on unlabelled patches
        L_D = CE(D(T, x), labelled or not)                                       on all
        T: predicted, G: true signed distances in [-1, 1], negative inside
    """

    class Config(RampOptions, MethodConfig):
        """Options; the defaults are those of the left atrium, with the ramp stretched to the length of the run."""

        distance_weight: float = Field(0.3, ge=0, description="b, weight of the supervised distances")
        weight: float = Field(0.01, ge=0, description="weight of the adversarial term after the ramp-up")
        discriminator_lr: float = Field(1e-4, gt=0, description="constant learning rate of the discriminator's Adam")
        discriminator_width: int | None = Field(
            None, ge=1, description="its channels after one convolution; null: four times the network's at full size"
        )
        init: Init = Field("default", description="initialisation of the network's convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.classes, maps = task.classes, task.classes - 1
        self.net = cast(DistanceNet, build(network="distance", maps=maps, init=config.init))
        width = config.discriminator_width or 4 * self.net.taps["embedding"].channels
        self.discriminator = Discriminator(maps, task.channels, task.spatial_dims, width)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n, x = self.config, batch.n, batch.images
        logits, distances = self.net.with_distances(x)
        distances = full_precision(distances)
        terms = {
            "supervised": soft_dice(logits[:n], batch.labels, FORMS["la"]),
            "distance": (distances[:n] - signed_distances(batch.labels, self.classes)).square().mean(),
        }
        if len(x) == n:
            yield Loss(terms, {"distance": c.distance_weight})
            return
        terms["adversarial"] = deception_loss(self.discriminator, distances[n:], x[n:])
        yield Loss(terms, {"distance": c.distance_weight, "adversarial": c.weight * c.ramp_up(clock)})

        with torch.no_grad(), evaluating(self.net):
            _, distances = self.net.with_distances(x)
        told = discrimination_loss(self.discriminator, full_precision(distances), x, n)
        yield Loss({"discriminator": told}, group="discriminator")

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"main": list(self.net.parameters()), "discriminator": list(self.discriminator.parameters())}

    def optimisers(self) -> Mapping[str, OwnOptimiser]:
        return {"discriminator": OwnOptimiser(self.config.discriminator_lr)}
