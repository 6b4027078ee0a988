"""DistillMatch: features that are dropped ever more distil into each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import cast

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.losses import DICE_CE_DOC, FORMS, DiceCE, dice_ce
from semiseg.ingredients.masked import masked_parts
from semiseg.ingredients.modes import evaluating
from semiseg.ingredients.pseudo_labels import confident_labels
from semiseg.ingredients.ramps import sigmoid_ramp
from semiseg.ingredients.strong_views import mixed_views
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.methods.distillmatch.views import ViewOptions
from semiseg.networks.base import Init
from semiseg.networks.branches import BranchedNet

OFFICIAL = {"threshold_steps": 17_000, "fix_axes": False}


@register("distillmatch-official", citation="BIBM 2024", title="DistillMatch as its code has it", options=OFFICIAL)
@register("distillmatch", citation="BIBM 2024", title="Self-knowledge distillation in FixMatch style (DistillMatch)")
class DistillMatch(Method):
    """A weak view teaches two strong ones and features with dropped channels, of which each teaches the next weaker.

    UniMatch for volumes, with three shares of dropped channels: the labels of the one view are those of the next, which
    has less to go by. Labels count where they are surer than a threshold that rises with the run. The code (AiEson/
    DistillMatch) draws the boxes of strong views with their axes swapped, so that some are cut off (`fix_axes`); its
    second unlabelled batch, from which boxes are taken, is here the same one in another order. It is for volumes of two
    classes; slices and more classes are the same formulas. Source: Wang et al., BIBM 2024.

        L   = (L_sup + D(z_1) / 2 + D(z_2) / 2 + 0.8 mean_k D(f_k; y) + 0.2 mean_k D(f_k; y_k-1)) / 3
        f_k: decoder on features of which a share is dropped       y: labels of the weak view, y_0 = y, y_k of f_k
        D: foreground Dice on voxels with max p >= tau             tau = (tau_0 + (1 - tau_0) ramp) ln 2
    """

    class Config(ViewOptions, MethodConfig):
        """Options; the defaults are those of the official runs, with the threshold's rise as a share of the run."""

        loss: DiceCE = Field("la", description=DICE_CE_DOC)
        threshold: float = Field(0.75, ge=0, le=1, description="tau_0, the threshold of the first step as it is")
        threshold_steps: int | None = Field(None, ge=1, description="steps of its rise; null: 17/15 of the run")
        drops: tuple[float, ...] = Field((0.25, 0.5, 0.75), min_length=1, description="shares of dropped channels")
        chain: float = Field(0.2, ge=0, le=1, description="share of the chain in the loss of dropped features")
        weight: float = Field(1.0, ge=0, description="weight of the unlabelled terms beside the supervised loss")
        init: Init = Field("default", description="initialisation of the convolutions")

        def smallest_batch(self) -> tuple[int, int]:
            return (1, 2) if self.box else (1, 0)

        def tau(self, clock: Clock) -> float:
            """The threshold at `clock`."""
            if clock.step == 0:
                return self.threshold
            ramp = sigmoid_ramp(clock.step - 1, self.threshold_steps or clock.steps * 17 / 15)
            return (self.threshold + (1 - self.threshold) * ramp) * math.log(2)

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.net = cast(BranchedNet, build(network="branches", decoders=1, init=config.init))

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n, u, tau = self.config, batch.n, batch.unlabelled, self.config.tau(clock)
        if not len(u):
            yield Loss({"supervised": dice_ce(self.net(batch.labelled), batch.labels, c.loss)})
            return
        order = torch.arange(len(u), device=u.device).roll(len(u) // 2)
        with torch.no_grad(), evaluating(self.net):
            sure_v, by_v = confident_labels(self.net(u[order]))
        mixed = mixed_views(c, u, order)

        logits, *dropped = self.net.with_dropped_features(batch.images, *c.drops, first=n, head_dropout=False)
        views = self.net(torch.cat([view.images for view in mixed])).tensor_split(2)
        sure_u, by_u = confident_labels(logits[n:])
        terms = {"supervised": dice_ce(logits[:n], batch.labels, c.loss)}
        for number, (z, view) in enumerate(zip(views, mixed, strict=True), 1):
            terms[f"strong_{number}"] = sure_dice(z, view.target(by_u, by_v), view.target(sure_u, sure_v) >= tau)
        direct = [sure_dice(f, by_u, sure_u >= tau) for f in dropped]
        taught = [(f, *confident_labels(teacher)) for teacher, f in pairwise(dropped)]
        chain = [direct[0], *(sure_dice(f, labels, sure >= tau) for f, sure, labels in taught)]
        terms["features"], terms["chain"] = torch.stack(direct).mean(), torch.stack(chain).mean()
        shares = {"strong_1": 0.5, "strong_2": 0.5, "features": 1 - c.chain, "chain": c.chain}
        weights = {name: c.weight * share / 3 for name, share in shares.items()}
        yield Loss(terms, {"supervised": 1 / 3, **weights})

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)


def sure_dice(logits: Tensor, labels: Tensor, keep: Tensor) -> Tensor:
    """Foreground Dice of `logits` `[B, C, *S]` against `labels` where `keep`; zero where no voxel is kept."""
    return masked_parts(logits, one_hot(labels, logits.shape[1]), keep, dice=FORMS["la"]).dice
