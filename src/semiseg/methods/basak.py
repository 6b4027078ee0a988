"""Basak et al.: voxels sampled by how badly their class does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.ingredients.class_performance import ClassPerformance
from semiseg.ingredients.class_sampling import sampled, sampling_rates
from semiseg.ingredients.ema import StudentTeacherOptions, make_teacher
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce, kept_cross_entropy
from semiseg.ingredients.pseudo_labels import confident_labels, hard_labels
from semiseg.ingredients.ramps import RampOptions
from semiseg.ingredients.reduce import processes
from semiseg.methods.base import Clock, Loss, Method, MethodConfig, NetworkBuilder, Predicting, Task, register
from semiseg.networks.base import Init


@register("basak", paper="arXiv:2209.00123", title="Addressing class imbalance in semi-supervised image segmentation")
class Basak(Method):
    """A mean teacher labels the unlabelled voxels; those of classes that do badly count more often, sure ones more.

    Three indicators per class on the labelled patches (entropy, confidence, margin to the winner) are added up over an
    epoch and fused by fuzzy ranks into a score s in [0, 1], a slow moving average that starts at 0. An unlabelled voxel
    that the student predicts as class k counts with probability rate_k = ((1 - s_k) / max(1 - s))^(5/2). Source: Basak,
    Ghosal and Sarkar, MICCAI 2022.

        L = L_sup(student) + weight * ramp * mean over all unlabelled voxels of m CE(z, argmax z_teacher)
        m = 1[u > 1 - rate_k] (max softmax(z))^(3/2), k = argmax z, u uniform, drawn anew for every voxel

    The paper is about hearts in 2D with few classes; this is the form of xmed-lab/DHC (called ACISIS there) for
    abdomens. Its code meets the scores of every labelled patch with the labels of every one (`pairs: false`: with its
    own, as meant), takes the sum of the logarithms of *all* classes for the entropy, and keeps the ranks of 12 classes;
    with fewer classes all keep theirs. That is the default. The teacher sees the student's images without more noise,
    its warm-up counts epochs, and the student predicts.
    """

    class Config(RampOptions, StudentTeacherOptions, MethodConfig):
        """Options; the defaults are those of xmed-lab/DHC, with the weight of its documented run."""

        loss: DiceCE = Field("dhc", description=DICE_CE_DOC)
        weight: float = Field(0.1, ge=0, description="weight of the unsupervised loss after the ramp-up")
        counts: Literal["steps", "epochs"] = Field("epochs", description="what the warm-up of the teacher counts")
        update_iter: int | None = Field(None, ge=1, description="steps between new sampling rates; null: an epoch")
        pairs: bool = Field(True, description="indicators of every labelled patch with the labels of every one")
        kept: int = Field(12, ge=1, description="classes per indicator that keep their rank; all if there are fewer")
        momentum: float = Field(0.99, ge=0, lt=1, description="share of the old score of a class")
        rate_exponent: float = Field(2.5, ge=0, description="exponent of the sampling rates; 0: all voxels count")
        confidence_exponent: float = Field(1.5, ge=0, description="exponent of the confidence that weighs a voxel")
        init: Init = Field("kaiming", description="initialisation of the convolutions, drawn twice")

    config: Config

    def __init__(self, config: Config, task: Task, build: NetworkBuilder) -> None:
        super().__init__(config, task, build)
        c = config
        self.cases = task.unlabelled
        self.student = build(init=c.init)
        self.teacher = make_teacher(build(init=c.init), c, task.steps)
        self.performance = ClassPerformance(task.classes, c.kept, pairs=c.pairs)

    def step(self, batch: Batch, clock: Clock) -> Iterator[Loss]:
        c, n = self.config, batch.n
        logits = self.student(batch.images)
        supervised = dice_ce(logits[:n], batch.labels, c.loss)
        unsupervised = torch.zeros_like(supervised)
        if len(batch.unlabelled):
            window = self._window(batch)
            momentum = c.within(c.momentum, clock.steps / window)
            self.performance.update(logits[:n].detach(), batch.labels, clock.step, window, momentum)
            target = hard_labels(self.teacher(batch.unlabelled))
            unsupervised = kept_cross_entropy(logits[n:], target, self.sample(logits[n:]))
        weight = c.weight * c.ramp_up(clock)
        yield Loss({"supervised": supervised, "unsupervised": unsupervised}, {"unsupervised": weight})
        self.teacher.update(self.student, clock.step if c.counts == "steps" else clock.epoch)

    def predictors(self) -> Sequence[Predicting]:
        return (self.teacher if self.config.predict_with == "teacher" else self.student,)

    def observations(self) -> dict[str, Tensor]:
        return {"performance": self.performance.value, "rate": self._rates()}

    def sample(self, logits: Tensor) -> Tensor:
        """Weights `[B, *S]` of the voxels by the student's `logits`: 0, or a power of its confidence."""
        confidence, labels = confident_labels(logits)
        return sampled(labels, self._rates()) * confidence**self.config.confidence_exponent

    def _rates(self) -> Tensor:
        return sampling_rates(self.performance.value, self.config.rate_exponent)

    def _window(self, batch: Batch) -> int:
        """Steps between new rates: as set, or one pass over the unlabelled cases."""
        per_step = len(batch.unlabelled) * processes()
        return self.config.update_iter or max(-(-self.cases // per_step), 1)
