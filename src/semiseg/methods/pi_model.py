"""Pi-model: the same network twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from pydantic import Field

from semiseg.batches.batch import Batch
from semiseg.ingredients.consistency import ConsistencyOptions, noisy, probability_mse
from semiseg.ingredients.losses import dice_ce
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register


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

    class Config(ConsistencyOptions, MethodConfig):
        """Options of the Pi-model."""

        mutual: bool = Field(False, description="gradient to both passes instead of a constant target")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.net = build(init=config.init)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        logits = self.net(noisy(batch.images, c.noise))
        supervised = dice_ce(logits[: batch.n], batch.labels, c.loss)
        with torch.set_grad_enabled(c.mutual):
            again = self.net(noisy(batch.images, c.noise))
        consistency = probability_mse(logits, again, mutual=c.mutual)
        weight = c.weight * c.ramp_up(clock)
        yield Loss({"supervised": supervised, "consistency": consistency}, {"consistency": weight})

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)
