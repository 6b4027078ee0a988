"""UniMatch: unified dual-stream perturbations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from pydantic import Field

from semiseg.batches.batch import Batch
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce
from semiseg.ingredients.modes import evaluating
from semiseg.ingredients.pseudo_labels import confident_labels
from semiseg.ingredients.strong_views import StrongViewOptions, mixed_views
from semiseg.ingredients.sure_labels import SureLabelOptions
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init
from semiseg.networks.branches import BranchedNet


@register("unimatch", paper="arXiv:2208.09910", title="Revisiting weak-to-strong consistency (UniMatch)")
class UniMatch(Method):
    """What a network is sure of on a weak view teaches it two strong views, and features with dropped channels.

    Into each strong view a box of another patch's is pasted, with that patch's labels, which come from a pass in
    evaluation mode. The weak view is what the batch holds. The unlabelled terms are Dice on sure voxels alone, as in
    the medical code of LiheYoung/UniMatch; `unlabelled_loss: ce` is the general method's. That code is for slices; on
    volumes boxes and blur have a third axis. The official second unlabelled batch, from which boxes are taken, is here
    the same one in another order. Source: Yang et al., CVPR 2023.

        L = (L_sup + L(z_1) / 4 + L(z_2) / 4 + L(z_f) / 2) / 2
        z_1, z_2: strong views       z_f: decoder on encoder features of which half of the channels are dropped
        L: Dice against argmax p of the weak view where max p is at least the threshold
    """

    class Config(StrongViewOptions, SureLabelOptions, MethodConfig):
        """Options; the defaults are those of the official runs on ACDC."""

        loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)
        weight: float = Field(0.5, ge=0, description="weight of the unlabelled terms together, and half of the whole")
        drop: float = Field(0.5, ge=0, lt=1, description="share of the encoder's channels that are dropped")
        init: Init = Field("default", description="initialisation of the convolutions")

        def smallest_batch(self) -> tuple[int, int]:
            return (1, 2) if self.box else (1, 0)

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.net = cast(BranchedNet, build(network="branches", decoders=1, init=config.init))

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n, u = self.config, batch.n, batch.unlabelled
        if not len(u):
            yield Loss({"supervised": dice_ce(self.net(batch.labelled), batch.labels, c.loss)})
            return
        order = torch.arange(len(u), device=u.device).roll(len(u) // 2)
        with torch.no_grad(), evaluating(self.net):
            sure_v, by_v = confident_labels(self.net(u[order]))
        mixed = mixed_views(c, u, order)

        logits, dropped = self.net.with_dropped_features(batch.images, c.drop)
        views = self.net(torch.cat([view.images for view in mixed])).tensor_split(2)
        sure_u, by_u = confident_labels(logits[n:])
        terms = {"supervised": dice_ce(logits[:n], batch.labels, c.loss)}
        for number, (z, view) in enumerate(zip(views, mixed, strict=True), 1):
            terms[f"strong_{number}"] = c.sure_loss(z, view.target(by_u, by_v), view.target(sure_u, sure_v))
        terms["features"] = c.sure_loss(dropped[n:], by_u, sure_u)
        half = c.weight / 2
        yield Loss(terms, {"supervised": 0.5, "strong_1": half / 2, "strong_2": half / 2, "features": half})

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)
