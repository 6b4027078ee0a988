"""DHC: dual-debiased heterogeneous co-training."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field
from torch import Tensor

from semiseg.ingredients.class_weights import MOMENTUM_DOC, WEIGHTING_DOC, WINDOW_DOC, Weighting, make_weights
from semiseg.ingredients.ensemble import ensemble_probabilities
from semiseg.ingredients.losses import STRICT_DOC, cross_pseudo_loss, dice_ce
from semiseg.ingredients.modules import ModuleListOf
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import LENGTH_DOC, RAMP_DOC, RampUnit, ramp_up
from semiseg.methods.base import Batch, Clock, Loss, Method, MethodConfig, NetworkBuilder, Task, register
from semiseg.networks.base import Init


@register("dhc", paper="10.1007/978-3-031-43898-1_56", title="Dual-debiased heterogeneous co-training")
class DHC(Method):
    """Two networks teach each other; class weights by difficulty in one and by rarity in the other keep them apart.

    All losses of a network are weighted with its own class weights, which change at every step and are logged: u by
    Dice on the labelled patches, v by how often a class is among the pseudo-labels. Source: Wang and Li, MICCAI 2023.

        L = L_sup,u(A) + L_sup,v(B) + w(t) [CE_u(p_A, argmax p_B) + CE_v(p_B, argmax p_A)]
    """

    class Config(MethodConfig):
        """Options; the defaults are those of the documented official run."""

        weight: float = Field(0.1, ge=0, description="weight of the cross loss after the ramp-up")
        ramp: RampUnit = Field("run", description=RAMP_DOC)
        ramp_length: float | None = Field(None, ge=0, description=LENGTH_DOC)
        weights_a: Weighting = Field("diff", description=WEIGHTING_DOC)
        weights_b: Weighting = Field("dist", description=WEIGHTING_DOC)
        window: float = Field(50.0, ge=1, description=WINDOW_DOC)
        momentum: float = Field(0.99, ge=0, lt=1, description=MOMENTUM_DOC)
        strict: bool = Field(False, description=STRICT_DOC)
        init_a: Init = Field("kaiming", description="initialisation of the first network's convolutions")
        init_b: Init = Field("kaiming", description="the same of the second network")

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.config = c = config
        self.nets = ModuleListOf([build(init=c.init_a), build(init=c.init_b)])
        self.class_weights = ModuleListOf(
            make_weights(kind, task.class_voxels, c.window, c.momentum, strict=c.strict)
            for kind in (c.weights_a, c.weights_b)
        )

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        logits = [net(batch.images) for net in self.nets]
        labels = [hard_labels(z) for z in logits]
        weights = [w.update(y, batch.labels) for w, y in zip(self.class_weights, labels, strict=True)]
        a, b = (
            dice_ce(z[: batch.n], batch.labels, "dhc", w, strict=c.strict) for z, w in zip(logits, weights, strict=True)
        )
        cross = cross_pseudo_loss(logits, labels, weights, strict=c.strict)
        weight = c.weight * ramp_up(clock, c.ramp, c.ramp_length)
        yield Loss({"supervised": a + b, "cross": cross}, {"cross": weight})

    def predict(self, images: Tensor) -> Tensor:
        return ensemble_probabilities([*self.nets], images)

    def observations(self) -> dict[str, Tensor]:
        return {f"class_weight_{name}": w.weight for name, w in zip("ab", self.class_weights, strict=True)}
