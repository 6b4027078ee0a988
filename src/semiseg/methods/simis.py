"""SimiS: weights by distance from the majority class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_weights import simis_weights
from semiseg.ingredients.co_training import CoTrainingOptions, make_pair, observed_weights, weighted_terms
from semiseg.ingredients.horizon import HorizonOptions
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.modules import ModuleListOf


@register("simis", paper="arXiv:2211.11086", title="A simple baseline for imbalanced semi-supervised learning (SimiS)")
class SimiS(Method):
    """Two networks teach each other; a class weighs the more, the further it is from the majority class.

    With P_c the share of class c among a network's own hard predictions on all patches of the step, its weights follow
    w <- m w + (1 - m) C (max P - P_c), m = 0.99. They begin at C, with one such step by the voxels of the labelled
    scans. All losses of a network have its own weights. Source: Chen et al., 2022.

        L = L_sup,w(A) + L_sup,w(B) + weight * ramp * [CE_w(z_A, argmax z_B) + CE_w(z_B, argmax z_A)]

    The paper is about classification and adds pseudo-labelled images to every class, by its distance from the largest
    one in the labelled set; this is the form of xmed-lab/DHC for segmentation, with loss weights instead. The
    cross-entropy does not change with a common factor of the weights, but the Dice part does: it weighs about C times
    the cross-entropy at the start, as in that code.
    """

    class Config(HorizonOptions, CoTrainingOptions, MethodConfig):
        """Options; the defaults are those of xmed-lab/DHC, with the weight of its documented run."""

        momentum: float = Field(0.99, ge=0, lt=1, description="share of the old class weights")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        self.nets = make_pair(c, build)
        self.class_weights = ModuleListOf(
            simis_weights(task.class_voxels, c.within(c.momentum, task.steps)) for _ in self.nets
        )

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        logits = [net(batch.images) for net in self.nets]
        terms = weighted_terms(logits, batch.labels, c.loss, self.class_weights)
        yield Loss(terms, {"cross": c.weight * c.ramp_up(clock)})

    def predictors(self) -> Sequence[Predicting]:
        return [*self.nets]

    def observations(self) -> dict[str, Tensor]:
        return observed_weights(self.class_weights)
