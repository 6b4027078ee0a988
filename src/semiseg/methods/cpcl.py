"""CPCL: cyclic prototype consistency learning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sums import full_precision, probabilities
from semiseg.ingredients.consistency import ConsistencyOptions, noisy
from semiseg.ingredients.ema import StudentTeacherOptions, make_teacher
from semiseg.ingredients.levels import one_hot, resize_linear
from semiseg.ingredients.losses import cross_entropy, dice_ce
from semiseg.ingredients.prototypes import prototype_sums
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register

OFFICIAL = {"gradient": "none", "ramp": "units150", "ramp_length": 40, "horizon": None}
"""The published code, of 10,000 steps on the left atrium."""


@register("cpcl-official", paper="arXiv:2109.13930", title="CPCL as its published code has it", options=OFFICIAL)
@register("cpcl", paper="arXiv:2109.13930", title="Cyclic prototype consistency learning (CPCL)")
class CPCL(Method):
    """Prototypes of labelled images segment unlabelled ones like the teacher does, and the reverse by the real labels.

    Beside a mean teacher on logits. A patch of one half is segmented by the prototypes of one of the other half, which
    have no gradient. The code (lemoshu/CPCL) keeps no graph of the features, so that both terms are constants there
    (`cpcl-official`); here the student's features learn by both. As in that code, the second term takes the softmax
    for logits. Source: Xu et al., IEEE JBHI 2022.

        L      = L_sup + w(t) (L_l2u + L_stab + 10 L_u2l)
        L_l2u  = mean (s(F_u; P_l) - p_t)^2       s: softmax of 20 cos(feature, prototype)
        L_u2l  = CE(s(F_l; P_u), y)               P: mean features of y, or of the teacher's labels, weighted by p
        L_stab = mean (z_t(x + noise) - z)^2      on the logits of all patches
    """

    class Config(ConsistencyOptions, StudentTeacherOptions, MethodConfig):
        """Options; the defaults are those of the official runs, with the ramp as a share of the run."""

        ramp_length: float | None = Field(0.6, ge=0, description="length of the ramp-up in its unit; null: all")
        backward_weight: float = Field(10.0, ge=0, description="weight of the way back, L_u2l, beside the others")
        sharpness: float = Field(20.0, gt=0, description="factor of the cosines in the softmax")
        tap: Literal["decoder", "bottleneck"] = Field(
            "decoder", description="features: of the last decoder stage but one, or those that the decoder receives"
        )
        gradient: Literal["both", "labelled", "none"] = Field(
            "both", description="halves whose features learn by the prototypes; without it they are the teacher's"
        )

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.student = build(init=config.init)
        self.teacher = make_teacher(build(init=config.init), config, task.steps)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n, y = self.config, batch.n, batch.labels
        tap = "bottleneck" if c.tap == "bottleneck" else self.student.decoder_taps[-2:][0]
        logits, taps = self.student(batch.images, (tap,))
        target = full_precision(self.teacher(noisy(batch.images, c.noise)))
        terms = {
            "supervised": dice_ce(logits[:n], y, c.loss),
            "stability": F.mse_loss(full_precision(logits), target),
        }
        if n < len(batch.images):
            seen, of_teacher = self.teacher.tapped(batch.unlabelled, (tap,))
            p, p_t = probabilities(logits[:n]), probabilities(seen)
            forward, backward = self._cycle(taps[tap], of_teacher[tap], p, p_t, y)
            terms |= {"forward": F.mse_loss(forward, p_t), "backward": cross_entropy(backward, y)}
        weight = c.weight * c.ramp_up(clock)
        yield Loss(terms, {"stability": weight, "forward": weight, "backward": c.backward_weight * weight})
        self.teacher.update(self.student, clock.step)

    def predictors(self) -> Sequence[Predicting]:
        return (self.teacher if self.config.predict_with == "teacher" else self.student,)

    def _cycle(self, mine: Tensor, theirs: Tensor, p: Tensor, p_t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities by prototypes of the other half: of the unlabelled half, and of the labelled one.

        Args:
            mine, theirs: features of the student for all patches, and of the teacher for the unlabelled ones.
            p, p_t: probabilities by the student of the labelled half, by the teacher of the unlabelled one.
        """
        c, sides, classes, n = self.config, y.shape[1:], p.shape[1], len(y)
        mine, theirs = (resize_linear(full_precision(f), sides) for f in (mine, theirs))
        labelled = mine[:n].detach() if c.gradient == "none" else mine[:n]
        unlabelled = mine[n:] if c.gradient == "both" else theirs
        of_labels = prototypes(labelled, one_hot(y, classes) * p)
        of_teacher = prototypes(theirs, one_hot(hard_labels(p_t), classes) * p_t)
        return (
            nearness(unlabelled, of_labels[partners(len(p_t), n, y.device)], c.sharpness),
            nearness(labelled, of_teacher[partners(n, len(p_t), y.device)], c.sharpness),
        )


@torch.no_grad()
def prototypes(features: Tensor, masks: Tensor) -> Tensor:
    """Mean features `[B, C, Z]` of `features` `[B, Z, *S]` weighted by `masks` `[B, C, *S]`; 0 of an absent class."""
    sums, weight = prototype_sums(features, masks)
    return sums / (weight.unsqueeze(2) + 1e-5)


def nearness(features: Tensor, means: Tensor, sharpness: float) -> Tensor:
    """Probabilities `[B, C, *S]`: softmax of the cosines of `features` `[B, Z, *S]` and `means` `[B, C, Z]`."""
    with torch.autocast(features.device.type, enabled=False):
        along = torch.einsum("bz...,bcz->bc...", features, F.normalize(means, dim=2))
        length = torch.linalg.vector_norm(features, dim=1, keepdim=True).clamp(min=1e-8)
        return torch.softmax(sharpness * along / length, 1)


def partners(count: int, others: int, device: torch.device) -> Tensor:
    """For each of `count` patches one of `others`: the one of its number where both halves have the same size."""
    return torch.arange(count, device=device) * others // count
