"""FixMatch: sure labels of a weak view teach a strong one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, cross_entropy, dice_ce
from semiseg.ingredients.modes import evaluating
from semiseg.ingredients.pseudo_labels import confident_labels
from semiseg.ingredients.strong_views import StrongViewOptions
from semiseg.ingredients.sure_labels import SureLabelOptions
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init


@register(
    "fixmatch-official",
    paper="arXiv:2001.07685",
    title="FixMatch as the code of UniMatch has it for photographs",
    options={"loss": "ce"},
)
@register(
    "fixmatch", paper="arXiv:2001.07685", title="FixMatch: semi-supervised learning with consistency and confidence"
)
class FixMatch(Method):
    """Labels that a network is sure of on a weak view teach it a strong view of the same patch.

    The form for segmentation that UniMatch (LiheYoung/UniMatch) compares with: a box of another patch's strong view is
    pasted in, with that patch's labels, which come from a pass in evaluation mode. The weak view is what the batch
    holds. The mean of the unlabelled term runs over all voxels, so that few sure ones count little. That code trains
    on photographs and has no Dice (`fixmatch-official`); here the supervised loss is that of the other methods. The
    forms of HiLab-git/SSL4MIS are in `fixmatch_ssl4mis`. Source: Sohn et al., NeurIPS 2020.

        L   = (L_sup + L_u) / 2
        L_u = mean over voxels of [max p_weak >= tau] CE(strong, argmax p_weak)
    """

    class Config(StrongViewOptions, SureLabelOptions, MethodConfig):
        """Options; the defaults are those of the medical runs of that code."""

        loss: DiceCE | Literal["ce"] = Field("ssl4mis", description=f"{DICE_CE_DOC}; `ce`, cross-entropy alone")
        unlabelled_loss: Literal["dice", "ce"] = Field(
            "ce", description="loss of the unlabelled term: Dice over the sure voxels, or cross-entropy, over all"
        )
        weight: float = Field(1.0, ge=0, description="weight of the unlabelled term beside the supervised loss")
        init: Init = Field("default", description="initialisation of the convolutions")

        def smallest_batch(self) -> tuple[int, int]:
            return (1, 2) if self.box else (1, 0)

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.net = build(init=config.init)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n, u = self.config, batch.n, batch.unlabelled
        if not len(u):
            yield Loss({"supervised": self._supervised(self.net(batch.labelled), batch.labels)})
            return
        order = torch.arange(len(u), device=u.device).roll(len(u) // 2)
        with torch.no_grad(), evaluating(self.net):
            sure_v, by_v = confident_labels(self.net(u[order]))
        strong, box = c.strong(u), c.boxes(u)

        logits, z = self.net(batch.images), self.net(torch.where(box, strong[order], strong))
        sure_u, by_u = confident_labels(logits[n:])
        inside = box.squeeze(1)
        unlabelled = c.sure_loss(z, torch.where(inside, by_v, by_u), torch.where(inside, sure_v, sure_u))
        supervised = self._supervised(logits[:n], batch.labels)
        yield Loss(
            {"supervised": supervised, "unlabelled": unlabelled}, {"supervised": 0.5, "unlabelled": c.weight / 2}
        )

    def predictors(self) -> Sequence[Predicting]:
        return (self.net,)

    def _supervised(self, logits: Tensor, labels: Tensor) -> Tensor:
        form = self.config.loss
        return cross_entropy(logits, labels) if form == "ce" else dice_ce(logits, labels, form)
