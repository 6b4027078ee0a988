"""DST: debiased self-training with a pseudo head and a worst-case head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.adversarial import worst_case_loss
from semiseg.ingredients.horizon import HorizonOptions
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce, kept_cross_entropy
from semiseg.ingredients.pseudo_labels import confident_labels, hard_labels
from semiseg.ingredients.ramps import RampOptions, reversal_ramp
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init
from semiseg.networks.branches import BranchedNet
from semiseg.networks.modules import ModuleListOf


@register("dst", paper="arXiv:2202.07136", title="Debiased self-training, as xmed-lab/DHC extends it")
@register(
    "dst-paper", paper="arXiv:2202.07136", title="Debiased self-training", options={"variant": "dst", "horizon": None}
)
class DST(Method):
    """Two networks teach each other; a third decoder of each shows where it could be wrong, and the encoder avoids it.

    Each network is an encoder with three decoders: main, pseudo and worst. Total loss: supervised(main_A) +
    supervised(main_B) + weight * ramp * (cross + worst_A + worst_B). cross is the mean over all voxels of
    keep_B CE(A, y_B) plus the converse, with labels whose probability is above `threshold`. worst = 2 CE(worst, y) on
    labelled patches - mean ln(min(1 - p_worst(y) + 1e-6, 1)) on unlabelled ones, y the main decoder's arg-max: right
    where the labels are, wrong elsewhere. Its gradient is reversed before the encoder, with a strength that rises from
    0 towards 0.1. The main decoders predict.

    In the paper (`dst-paper`) the main decoder labels and the pseudo decoder learns from the labels, so that their
    errors stay out of the main one. xmed-lab/DHC has it the other way round: the pseudo decoder labels and the other
    network's main decoder learns. No gradient ever reaches that pseudo decoder, so that it stays as it was drawn and
    its labels can hardly mean anything. `dst` is that form, as it made the published numbers; use `dst-paper` for your
    own data. Constants of both are DHC's (the paper has a threshold of 0.7, and 1000 steps for the reversal).

        L = L_sup(A) + L_sup(B) + w(t) (L_cross + L_worst(A) + L_worst(B))
    """

    class Config(HorizonOptions, RampOptions, MethodConfig):
        """Options; the defaults are those of xmed-lab/DHC, with the weight of its documented run."""

        variant: Literal["dhc", "dst"] = Field(
            "dhc", description="`dhc`: the pseudo decoder labels, the main one learns; `dst`: the reverse, as the paper"
        )
        loss: DiceCE = Field("dhc", description=DICE_CE_DOC)
        weight: float = Field(0.1, ge=0, description="weight of cross and worst-case loss after the ramp-up")
        threshold: float = Field(0.95, ge=0, le=1, description="probability that a label must exceed to count")
        worst_weight: float = Field(1.0, ge=0, description="factor of the worst-case loss beside the common weight")
        margin: float = Field(2.0, ge=0, description="weight of its agreement on labelled patches")
        reversal: float = Field(0.1, ge=0, description="largest strength of the gradient reversal")
        reversal_steps: float = Field(500.0, gt=0, description="steps by which it has nearly half of that")
        init_a: Init = Field("kaiming", description="initialisation of the first network's convolutions")
        init_b: Init = Field("xavier", description="the same of the second network")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        nets = (build(network="branches", decoders=3, init=init) for init in (c.init_a, c.init_b))
        self.nets = ModuleListOf(cast(BranchedNet, net) for net in nets)
        if c.variant == "dhc":
            for net in self.nets:
                net.decoders[1].requires_grad_(False)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n = self.config, batch.n
        reversal = reversal_ramp(clock.step, c.reach(c.reversal_steps, clock.steps), c.reversal)
        gradients = (1.0, None if c.variant == "dhc" else 1.0, -reversal)
        main, pseudo, worst = zip(*(net.decode(batch.images, gradients) for net in self.nets), strict=True)
        labelling, learning = (pseudo, main) if c.variant == "dhc" else (main, pseudo)
        a, b = (dice_ce(z[:n], batch.labels, c.loss) for z in main)
        terms = {
            "supervised": a + b,
            "cross": self._cross(learning, labelling),
            "worst": torch.stack(
                [worst_case_loss(w, hard_labels(z), n, c.margin) for w, z in zip(worst, main, strict=True)]
            ).sum(),
        }
        weight = c.weight * c.ramp_up(clock)
        yield Loss(terms, {"cross": weight, "worst": weight * c.worst_weight})

    def predictors(self) -> Sequence[Predicting]:
        return [*self.nets]

    def _cross(self, learning: tuple[Tensor, ...], labelling: tuple[Tensor, ...]) -> Tensor:
        """Each network's `learning` logits against the confident labels of the other's `labelling` logits."""
        a, b = learning
        (sure_a, by_a), (sure_b, by_b) = (confident_labels(z) for z in labelling)
        threshold = self.config.threshold
        return kept_cross_entropy(a, by_b, sure_b > threshold) + kept_cross_entropy(b, by_a, sure_a > threshold)
