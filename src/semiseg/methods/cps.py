"""Cross pseudo supervision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.ensemble import PairOptions, of_pair
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, cross_entropy, cross_pseudo_loss, dice_ce
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import RampOptions
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init
from semiseg.networks.modules import ModuleListOf


@register("cps", paper="arXiv:2106.01226", title="Semi-supervised segmentation with cross pseudo supervision")
class CPS(Method):
    """Two networks that start differently; each learns from the other's hard predictions.

    The defaults follow the medical form of HiLab-git/SSL4MIS. The form of xmed-lab/DHC has `loss: dhc` and
    `cross_on: all`; the original has `loss: ce`, `cross_on: all`, `weight: 1.5` and `ramp: none`.
    Source: Chen et al., CVPR 2021.

        L = L_sup(A) + L_sup(B) + w(t) [CE(p_A, argmax p_B) + CE(p_B, argmax p_A)]
    """

    class Config(RampOptions, PairOptions, MethodConfig):
        """Options of cross pseudo supervision."""

        loss: DiceCE | Literal["ce"] = Field("ssl4mis", description=f"{DICE_CE_DOC}; `ce`: cross-entropy alone")
        cross_on: Literal["unlabelled", "all"] = Field("unlabelled", description="patches with the cross loss")
        weight: float = Field(0.1, ge=0, description="weight of the cross loss after the ramp-up")
        init_a: Init = Field("kaiming", description="initialisation of the first network's convolutions")
        init_b: Init = Field("xavier", description="the same of the second network")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.nets = ModuleListOf([build(init=config.init_a), build(init=config.init_b)])

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        logits = [net(batch.images) for net in self.nets]
        first = 0 if c.cross_on == "all" else batch.n
        cross = cross_pseudo_loss([z[first:] for z in logits], [hard_labels(z[first:]) for z in logits])
        a, b = (self._supervised(z[: batch.n], batch.labels) for z in logits)
        weight = c.weight * c.ramp_up(clock)
        yield Loss({"supervised": a + b, "cross": cross}, {"cross": weight})

    def predictors(self) -> Sequence[Predicting]:
        return of_pair(self.nets, self.config.predict_with)

    def _supervised(self, logits: Tensor, labels: Tensor) -> Tensor:
        form = self.config.loss
        return cross_entropy(logits, labels) if form == "ce" else dice_ce(logits, labels, form)
