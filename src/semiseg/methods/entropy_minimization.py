"""Entropy minimisation: be sure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.confidence import entropy
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce
from semiseg.ingredients.ramps import RampOptions
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init

PRINTED = {"entropy_on": "unlabelled", "weight": 0.001, "ramp": "none", "epsilon": 1e-30}


@register(
    "entropy_minimization-paper", paper="arXiv:1811.12833", title="Entropy minimisation of ADVENT", options=PRINTED
)
@register("entropy_minimization", paper="arXiv:1811.12833", title="Entropy minimisation (ADVENT)")
class EntropyMinimization(Method):
    """The entropy of the predictions is a loss, so that the network decides everywhere.

    What the tables of medical papers call EM: in HiLab-git/SSL4MIS the term is taken on all patches and ramped up. As
    printed (`entropy_minimization-paper`) it is taken on unlabelled images with a small constant weight; the
    adversarial part of that paper is not used. Source: Vu et al., CVPR 2019.

        L = L_sup + w(t) mean of -sum_c p_c ln(p_c + eps) / ln C
    """

    class Config(RampOptions, MethodConfig):
        """Options; the defaults are those of SSL4MIS, with the ramp stretched to the length of the run."""

        loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)
        weight: float = Field(0.1, ge=0, description="weight of the entropy after the ramp-up")
        entropy_on: Literal["all", "unlabelled"] = Field("all", description="patches whose entropy counts")
        epsilon: float = Field(1e-6, ge=1e-30, le=0.01, description="what is added to a probability in the logarithm")
        init: Init = Field("default", description="initialisation of the convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.net = build(init=config.init)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        logits = self.net(batch.images)
        terms = {"supervised": dice_ce(logits[: batch.n], batch.labels, c.loss)}
        counted = logits if c.entropy_on == "all" else logits[batch.n :]
        if len(counted):
            terms["entropy"] = entropy(probabilities(counted), c.epsilon).mean() / math.log(logits.shape[1])
        yield Loss(terms, {"entropy": c.weight * c.ramp_up(clock)})

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)
