"""FixMatch in the forms of SSL4MIS: labels by margin with complementary labels, or labels of a teacher."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.ema import Teacher, TeacherOptions, make_teacher
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import RampOptions
from semiseg.ingredients.reduce import batch_sum
from semiseg.ingredients.strong_views import GreyViewOptions
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init


@register(
    "fixmatch_ssl4mis-teacher",
    paper="arXiv:2001.07685",
    title="FixMatch with a teacher's labels, as SSL4MIS has it beside learned augmentation",
    options={"labels": "teacher"},
)
@register("fixmatch_ssl4mis", paper="arXiv:2001.07685", title="FixMatch as SSL4MIS has it")
class FixMatchSSL4MIS(Method):
    """Labels with a wide margin on a weak view teach the strong view, which also learns what a voxel is least of all.

    A voxel without such a label counts as background. With `labels: teacher` a moving average labels the weak view, all
    voxels count, and there is no complementary term; the learned augmentation policy that goes with it there is not
    here: views are weak as the batch holds them and strong as the options say. Source: Sohn et al., NeurIPS 2020, as in
    HiLab-git/SSL4MIS.

        L      = L_sup + w(t) (CE + Dice of the strong view against the labels + a L_comp)
        L_comp = a CE(1 - p_strong as if they were logits, argmin p_weak)
        a      = mean of 1 - E / ln N       E: entropy of a class's probabilities over the N voxels of a patch
        label  = argmax of the p_weak with (p - min p) / max p > tau, or class 0
    """

    class Config(GreyViewOptions, RampOptions, TeacherOptions, MethodConfig):
        """Options; the defaults are those of the official runs, with the ramp stretched to the length of the run."""

        jitter: float = Field(1.0, ge=0, le=1, description="probability that brightness and contrast of a view change")
        jitter_strength: float = Field(0.8, ge=0, lt=1, description="their factors lie between 1 - and 1 + this")
        blur: float = Field(0.0, ge=0, le=1, description="probability that a strong view is blurred")
        loss: DiceCE = Field("ssl4mis", description=f"{DICE_CE_DOC}; twice this, as the official sums are not halved")
        labels: Literal["margin", "teacher"] = Field(
            "margin", description="labels of the weak view: the student's with a wide margin, or all of the teacher's"
        )
        threshold: float = Field(0.8, ge=0, lt=1, description="least margin of a label, relative to the largest")
        weight: float = Field(0.1, ge=0, description="weight of the unlabelled terms after the ramp-up")
        init: Init = Field("default", description="initialisation of the convolutions")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        self.student = build(init=config.init)
        self.teacher: Teacher | None = None
        if config.labels == "teacher":
            self.teacher = make_teacher(deepcopy(self.student), config, task.steps)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n = self.config, batch.n
        weak, strong = self.student(batch.images), self.student(c.strong(batch.images))
        terms = {"supervised": 2 * dice_ce(weak[:n], batch.labels, c.loss)}
        weight = c.weight * c.ramp_up(clock)
        if self.teacher is not None:
            terms["pseudo"] = 2 * dice_ce(strong[n:], hard_labels(self.teacher(batch.images))[n:], c.loss)
        else:
            p = probabilities(weak.detach())
            terms["pseudo"] = 2 * dice_ce(strong[n:], margin_labels(p, c.threshold)[n:], c.loss)
            terms["complementary"] = complementary_loss(probabilities(strong), p)
        yield Loss(terms, dict.fromkeys(terms, weight) | {"supervised": 1.0})
        if self.teacher is not None:
            self.teacher.update(self.student, clock.step)

    def predictors(self) -> Sequence[Predicting]:
        return (self.student,)


def margins(p: Tensor) -> Tensor:
    """How far each of the probabilities `[B, C, *S]` lies above the least one, relative to the largest."""
    return (p - p.amin(1, keepdim=True)) / p.amax(1, keepdim=True)


def margin_labels(p: Tensor, threshold: float) -> Tensor:
    """Most probable class `[B, *S]` of those whose margin is above the threshold; 0 where there is none."""
    return hard_labels(torch.where(margins(p) > threshold, p, 0.0))


def spread_weight(p: Tensor) -> Tensor:
    """1 - the entropy over space of every class's probabilities `[B, C, *S]`, relative to the largest; their mean."""
    maps = p.flatten(2)
    tiny = torch.finfo(maps.dtype).eps
    share = maps / maps.sum(2, keepdim=True).clamp(min=tiny)
    entropy = -(share * share.clamp(tiny, 1 - tiny).log()).sum(2) / math.log(max(maps.shape[2], 2))
    total, count = batch_sum(torch.stack([(1 - entropy).sum(), entropy.new_full((), entropy.numel())]))
    weight: Tensor = total / count
    return weight


def complementary_loss(strong: Tensor, weak: Tensor) -> Tensor:
    """Of probabilities `strong` against the least probable class in `weak`, both `[B, C, *S]`, weighted twice."""
    a = spread_weight(strong)
    return a * a * F.cross_entropy(1 - strong, weak.min(1).indices)
