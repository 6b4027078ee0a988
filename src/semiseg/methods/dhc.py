"""DHC: dual-debiased heterogeneous co-training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_weights import WEIGHTING_DOC, ClassWeightOptions, Weighting, make_both_weights
from semiseg.ingredients.co_training import CoTrainingOptions, make_pair, observed_weights, weighted_terms
from semiseg.ingredients.losses import STRICT_DOC
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init


@register("dhc", paper="doi:10.1007/978-3-031-43898-1_56", title="Dual-debiased heterogeneous co-training")
class DHC(Method):
    """Two networks teach each other; class weights by difficulty in one and by rarity in the other keep them apart.

    All losses of a network are weighted with its own class weights, which change at every step and are logged: u by
    Dice on the labelled patches, v by how often a class is among the pseudo-labels. Source: Wang and Li, MICCAI 2023.

        L = L_sup,u(A) + L_sup,v(B) + w(t) [CE_u(p_A, argmax p_B) + CE_v(p_B, argmax p_A)]
    """

    class Config(ClassWeightOptions, CoTrainingOptions, MethodConfig):
        """Options; the defaults are those of the documented official run."""

        weights_a: Weighting = Field("diff", description=WEIGHTING_DOC)
        weights_b: Weighting = Field("dist", description=WEIGHTING_DOC)
        init_b: Init = Field("kaiming", description="the same of the second network")
        strict: bool = Field(False, description=STRICT_DOC)

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        self.nets = make_pair(c, build)
        self.class_weights = make_both_weights(c, task.class_voxels, task.steps, strict=c.strict)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        logits = [net(batch.images) for net in self.nets]
        terms = weighted_terms(logits, batch.labels, c.loss, self.class_weights, strict=c.strict)
        yield Loss(terms, {"cross": c.weight * c.ramp_up(clock)})

    def predictors(self) -> Sequence[Predicting]:
        return [*self.nets]

    def observations(self) -> dict[str, Tensor]:
        return observed_weights(self.class_weights)
