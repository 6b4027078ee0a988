"""SCP-Net: self-aware and cross-sample prototypes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sums import full_precision, probabilities
from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, DiceForm, cross_entropy, dice_ce, soft_dice
from semiseg.ingredients.ramps import RampOptions
from semiseg.ingredients.reduce import batch_cat
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init

PLAIN_DICE = DiceForm(smooth=0.0, squared=True, background=True, offset=1.0, scale=0.5, epsilon=1e-10)
OFFICIAL = {"loss": "single", "ramp": "units150", "ramp_length": 1000}
"""The published code."""


@register("scpnet-paper", paper="arXiv:2305.16214", title="SCP-Net as described", options={"agreement": "reliable"})
@register("scpnet-official", paper="arXiv:2305.16214", title="SCP-Net as its code has it", options=OFFICIAL)
@register("scpnet", paper="arXiv:2305.16214", title="Self-aware and cross-sample prototypical learning (SCP-Net)")
class SCPNet(Method):
    """A voxel has the class of whose mean feature it is nearest: that of its own image, and those of all others.

    Both nearnesses are targets of the classifier. The cross-sample one weighs more where the images disagree about the
    class, as in the code (Medsemiseg/SCP-Net), which is for slices; as described (`scpnet-paper`) it does where they
    agree. Its Dice lacks the factor two (`scpnet-official`). The ramp of the weight ends long after the run, so that a
    small share of it is ever reached. Source: Zhang et al., MICCAI 2023.

        L      = L_sup + w(t) (L_self + L_cross) / 2            on all patches
        L_self = mean (softmax_c s_own - p)^2                   s: cosine of feature and prototype
        L_cross = mean max_c softmax(s_own) H (r - p)^2         r: sums of exp s over the other images, normalised
        H: entropy of the nearest classes by all images' prototypes, relative to ln C
    """

    class Config(RampOptions, MethodConfig):
        """Options; the defaults are those of the official runs, with the ramp as a share of the run."""

        loss: DiceCE | Literal["single"] = Field(
            "ssl4mis", description=f"{DICE_CE_DOC}; `single`, that of `ssl4mis` without the two in the Dice"
        )
        weight: float = Field(0.1, ge=0, description="weight of the consistency at the end of the ramp-up")
        ramp_length: float | None = Field(3.75, ge=0, description="length of the ramp-up in its unit; null: all")
        agreement: Literal["unreliable", "reliable"] = Field(
            "unreliable", description="voxels that weigh more: those on which the images' prototypes differ, or agree"
        )
        init: Init = Field("default", description="initialisation of the convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.net = build(init=config.init)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n = self.config, batch.n
        logits, taps = self.net(batch.images, taps=("embedding",))
        p = probabilities(logits)
        near = nearness(full_precision(taps["embedding"].detach()), p.detach())
        sure = near.own.amax(1, keepdim=True)
        weight = sure * (near.doubt if c.agreement == "unreliable" else 1 - near.doubt)
        terms = {
            "supervised": self._supervised(logits[:n], batch.labels),
            "self": F.mse_loss(p, near.own),
            "cross": (weight * (near.others - p).square()).mean(),
        }
        half = c.weight * c.ramp_up(clock) / 2
        yield Loss(terms, {"self": half, "cross": half})

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)

    def _supervised(self, logits: Tensor, labels: Tensor) -> Tensor:
        form = self.config.loss
        if form != "single":
            return dice_ce(logits, labels, form)
        return (cross_entropy(logits, labels) + (1 + soft_dice(logits, labels, PLAIN_DICE)) / 2) / 2


class Nearness(NamedTuple):
    """Probabilities `[B, C, *S]` by the prototypes of a sample itself and of all others, and doubt `[B, 1, *S]`."""

    own: Tensor
    others: Tensor
    doubt: Tensor


def soft_prototypes(features: Tensor, p: Tensor) -> Tensor:
    """Mean feature of every class and sample, `[B, C, Z]`, of features `[B, Z, *S]` weighted by `p` `[B, C, *S]`."""
    x, weight = features.flatten(2), p.flatten(2)
    return torch.einsum("bzn,bcn->bcz", x, weight) / (weight.sum(2, keepdim=True) + 1e-5)


@torch.no_grad()
def nearness(features: Tensor, p: Tensor) -> Nearness:
    """What the prototypes of all samples, of all processes, say of every voxel."""
    with torch.autocast(features.device.type, enabled=False):
        x, mine = F.normalize(features, dim=1), F.normalize(soft_prototypes(features, p), dim=2)
        own = torch.einsum("bz...,bcz->bc...", x, mine)
        everyone, classes = batch_cat(mine), p.shape[1]
        total, votes = torch.zeros_like(own), torch.zeros_like(own)
        for prototypes in everyone:
            s = torch.einsum("bz...,cz->bc...", x, prototypes)
            total += s.exp()
            votes += one_hot(s.max(1).indices, classes, s.dtype)
        share = votes / len(everyone)
        doubt = -(share * torch.log(share + 1e-6)).sum(1, keepdim=True) / math.log(classes)
        # Of a single sample there are no others, whose nearness is its own then.
        rest = total - own.exp() if len(everyone) > 1 else total
        return Nearness(own.softmax(1), rest / rest.sum(1, keepdim=True), doubt)
