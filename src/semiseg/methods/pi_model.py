"""Pi-model: the same network twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semiseg.ingredients.consistency import add_noise, probability_mse
from semiseg.ingredients.ensemble import ensemble_probabilities
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce
from semiseg.ingredients.ramps import LENGTH_DOC, RAMP_DOC, RampUnit, ramp_up
from semiseg.methods.base import Batch, Clock, Loss, Method, MethodConfig, NetworkBuilder, Task, register
from semiseg.networks.base import Init


@register("pi_model", paper="arXiv:1610.02242", title="Temporal ensembling for semi-supervised learning (Pi-model)")
class PiModel(Method):
    """Two passes of one network, with other noise and other dropout each, give the same probabilities.

    The paper is about images as wholes; this is its form for patches. Both passes see the same augmented patch with
    noise of their own (moved voxels would have to be moved back), and whatever dropout the network has. The squared
    difference is taken over all patches, as in the paper. The second pass is a constant target, the common form;
    `mutual` gives the gradient to both, as the paper does. Weight and ramp are those of `mean_teacher`, since the
    paper's weight belongs to its classification data. Source: Laine and Aila, ICLR 2017.

        L = L_sup + w(t) mean (p - p')^2          p, p': the two passes
    """

    class Config(MethodConfig):
        """Options of the Pi-model."""

        loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)
        weight: float = Field(0.1, ge=0, description="weight of the consistency after the ramp-up")
        ramp: RampUnit = Field("run", description=RAMP_DOC)
        ramp_length: float | None = Field(None, ge=0, description=LENGTH_DOC)
        noise: float = Field(0.1, ge=0, description="deviation of the input noise of each pass, cut at two deviations")
        mutual: bool = Field(False, description="gradient to both passes instead of a constant target")
        consistency_on: Literal["all", "unlabelled"] = Field("all", description="patches with the consistency")
        init: Init = Field("default", description="initialisation of the convolutions")

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.config = config
        self.net = build(init=config.init)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        first = 0 if c.consistency_on == "all" else batch.n
        logits = self._noisy_pass(batch.images)
        supervised = dice_ce(logits[: batch.n], batch.labels, c.loss)
        consistency = torch.zeros_like(supervised)
        if first < len(logits):
            with torch.set_grad_enabled(c.mutual):
                again = self._noisy_pass(batch.images[first:])
            consistency = probability_mse(logits[first:], again, mutual=c.mutual)
        weight = c.weight * ramp_up(clock, c.ramp, c.ramp_length)
        yield Loss({"supervised": supervised, "consistency": consistency}, {"consistency": weight})

    def predict(self, images: Tensor) -> Tensor:
        return ensemble_probabilities([self.net], images)

    def _noisy_pass(self, images: Tensor) -> Tensor:
        noise = self.config.noise
        return self.net(add_noise(images, torch.randn_like(images), noise) if noise else images)
