"""CReST for segmentation: class-rebalanced co-training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_weights import crest_weights
from semiseg.ingredients.co_training import CoTrainingOptions, make_pair, observed_weights, weighted_terms
from semiseg.ingredients.horizon import HorizonOptions
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.modules import ModuleListOf


@register("crest", paper="arXiv:2102.09559", title="Class-rebalancing self-training (CReST)")
class CReST(Method):
    """Two networks teach each other; classes count by the reversed order of how frequent they are.

    With n_c the voxels of class c and mu_c = (n_c / max n)^(1/3), the class at rank l of C by frequency has the
    mu of rank C + 1 - l: the most frequent one the smallest, the rarest 1. A network's class weights follow that value
    of its own hard predictions on the unlabelled patches, w <- 0.99 w + 0.01 mu', from that of the labelled scans on.
    All losses of a network have its own weights. Source: Wei et al., CVPR 2021.

        L = L_sup,w(A) + L_sup,w(B) + weight * ramp * [CE_w(z_A, argmax z_B) + CE_w(z_B, argmax z_A)]

    This is the form of xmed-lab/DHC for segmentation. The paper, on classification, trains in generations:
    `crest-generations`.
    """

    class Config(HorizonOptions, CoTrainingOptions, MethodConfig):
        """Options; the defaults are those of xmed-lab/DHC, with the weight of its documented run."""

        alpha: float = Field(1 / 3, ge=0, description="exponent of the frequencies; 0: all classes count alike")
        momentum: float = Field(0.99, ge=0, lt=1, description="share of the old class weights")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c, momentum = config, config.within(config.momentum, task.steps)
        self.nets = make_pair(c, build)
        self.class_weights = ModuleListOf(crest_weights(task.class_voxels, momentum, c.alpha) for _ in self.nets)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        logits = [net(batch.images) for net in self.nets]
        terms = weighted_terms(logits, batch.labels, c.loss, self.class_weights)
        yield Loss(terms, {"cross": c.weight * c.ramp_up(clock)})

    def predictors(self) -> Sequence[Predicting]:
        return [*self.nets]

    def observations(self) -> dict[str, Tensor]:
        return observed_weights(self.class_weights)
