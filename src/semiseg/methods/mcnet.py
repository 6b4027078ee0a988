"""MC-Net and MC-Net+: mutual consistency of unlike decoders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.losses import FORMS, cross_entropy, soft_dice
from semiseg.ingredients.masked import BATCH_DICE
from semiseg.ingredients.ramps import RampOptions
from semiseg.ingredients.sharpening import sharpen
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init
from semiseg.networks.blocks import Upsampling
from semiseg.networks.branches import BranchedNet

TWO = {"upsampling": ("transposed", "linear")}


@register("mcnet_plus", paper="doi:10.1016/j.media.2022.102530", title="Mutual consistency learning (MC-Net+)")
@register("mcnet", paper="arXiv:2103.02911", title="Mutual consistency training (MC-Net)", options=TWO)
class MCNet(Method):
    """Decoders on one encoder that enlarge in different ways learn each other's sharpened probabilities.

    Where they disagree or are unsure, the consistency asks for one sure answer. `mcnet` has two decoders, `mcnet_plus`
    three; the first one predicts. The supervised loss is Dice alone, and the gradient goes through the sharpened
    target as well, both as in the official code (ycwu1997/MC-Net); `cross_entropy` and `detach_target` are the other
    readings. Sources: Wu et al., MICCAI 2021 and Medical Image Analysis 2022.

        L = a sum_k Dice(p_k, y) + w(t) sum_(k != l) mean (p_k - s_l)^2
        s = p^(1/T) / (p^(1/T) + (1 - p)^(1/T))         on all patches, every class on its own
    """

    class Config(RampOptions, MethodConfig):
        """Options; the defaults are those of the left atrium, with the ramp stretched to the length of the run."""

        upsampling: tuple[Upsampling, ...] = Field(
            ("transposed", "linear", "nearest"),
            min_length=2,
            description="how each decoder enlarges; the first predicts",
        )
        temperature: float = Field(0.1, ge=0.02, le=1, description="of the sharpening; 1: none")
        dice: Literal["foreground", "all"] = Field(
            "foreground", description="classes of the Dice: without squares over the foreground, or with over all"
        )
        cross_entropy: bool = Field(False, description="cross-entropy beside the Dice")
        labelled_weight: float = Field(0.5, ge=0, description="weight of the supervised loss")
        weight: float = Field(1.0, ge=0, description="weight of the consistency after the ramp-up")
        detach_target: bool = Field(False, description="no gradient through the sharpened probabilities")
        init: Init = Field("default", description="initialisation of the convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        network = build(network="branches", upsamplings=c.upsampling, init=c.init)
        self.net = cast(BranchedNet, network)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c = self.config
        logits = self.net.decode(batch.images)
        supervised = torch.stack([self._supervised(z[: batch.n], batch.labels) for z in logits]).sum()

        p = [probabilities(z) for z in logits]
        sharp = [sharpen(each.detach() if c.detach_target else each, c.temperature) for each in p]
        pairs = permutations(range(len(p)), 2)
        consistency = torch.stack([(p[k] - sharp[other]).square().mean() for k, other in pairs]).sum()

        weight = c.weight * c.ramp_up(replace(clock, step=clock.step + 1))
        weights = {"supervised": c.labelled_weight, "consistency": weight}
        yield Loss({"supervised": supervised, "consistency": consistency}, weights)

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)

    def _supervised(self, logits: Tensor, labels: Tensor) -> Tensor:
        dice = soft_dice(logits, labels, BATCH_DICE if self.config.dice == "foreground" else FORMS["ssl4mis"])
        return dice + cross_entropy(logits, labels) if self.config.cross_entropy else dice
