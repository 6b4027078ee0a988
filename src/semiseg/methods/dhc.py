"""DHC: dual-debiased heterogeneous co-training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field
from torch import Tensor

from semiseg.ingredients.class_weights import WEIGHTING_DOC, ClassWeightOptions, Weighting, make_both_weights
from semiseg.ingredients.losses import cross_pseudo_loss, dice_ce
from semiseg.ingredients.modules import ModuleListOf
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import RampOptions
from semiseg.methods.base import Batch, Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init


@register("dhc", paper="10.1007/978-3-031-43898-1_56", title="Dual-debiased heterogeneous co-training")
class DHC(Method):
    """Two networks teach each other; class weights by difficulty in one and by rarity in the other keep them apart.

    All losses of a network are weighted with its own class weights, which change at every step and are logged: u by
    Dice on the labelled patches, v by how often a class is among the pseudo-labels. Source: Wang and Li, MICCAI 2023.

        L = L_sup,u(A) + L_sup,v(B) + w(t) [CE_u(p_A, argmax p_B) + CE_v(p_B, argmax p_A)]
    """

    class Config(ClassWeightOptions, RampOptions, MethodConfig):
        """Options; the defaults are those of the documented official run."""

        weight: float = Field(0.1, ge=0, description="weight of the cross loss after the ramp-up")
        weights_a: Weighting = Field("diff", description=WEIGHTING_DOC)
        weights_b: Weighting = Field("dist", description=WEIGHTING_DOC)
        init_a: Init = Field("kaiming", description="initialisation of the first network's convolutions")
        init_b: Init = Field("kaiming", description="the same of the second network")

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.config = c = config
        self.nets = ModuleListOf([build(init=c.init_a), build(init=c.init_b)])
        self.class_weights = make_both_weights(c, task.class_voxels)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        logits = [net(batch.images) for net in self.nets]
        labels = [hard_labels(z) for z in logits]
        weights = [w.update(y, batch.labels) for w, y in zip(self.class_weights, labels, strict=True)]
        a, b = (
            dice_ce(z[: batch.n], batch.labels, "dhc", w, strict=c.strict) for z, w in zip(logits, weights, strict=True)
        )
        cross = cross_pseudo_loss(logits, labels, weights, strict=c.strict)
        weight = c.weight * c.ramp_up(clock)
        yield Loss({"supervised": a + b, "cross": cross}, {"cross": weight})

    def predictors(self) -> Sequence[Predicting]:
        return [*self.nets]

    def observations(self) -> dict[str, Tensor]:
        return {f"class_weight_{name}": w.weight for name, w in zip("ab", self.class_weights, strict=True)}
