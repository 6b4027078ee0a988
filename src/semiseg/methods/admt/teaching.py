"""Two teachers' predictions as labels of one."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.losses import FORMS, kept_cross_entropy
from semiseg.ingredients.masked import masked_parts
from semiseg.ingredients.pseudo_labels import confident_labels


class Lesson(NamedTuple):
    """What unlabelled voxels are taught, each `[B, *S]`: class, its probability, and where the teachers disagree."""

    labels: Tensor
    confidence: Tensor
    conflict: Tensor


class LessonOptions(BaseModel):
    """How the student learns a lesson."""

    unlabelled_loss: Literal["dice", "ce"] = Field("ce", description="loss of the unlabelled term")
    threshold: float = Field(0.8, ge=0, le=1, description="least probability of a label that counts")
    conflict_weight: float = Field(1.0, ge=0, description="weight of voxels on which the teachers disagree")

    def unlabelled(self, logits: Tensor, lesson: Lesson) -> Tensor:
        """Loss of `logits` `[B, C, *S]` against the sure labels of a lesson."""
        sure = lesson.confidence >= self.threshold
        if self.conflict_weight == 1:
            return self._loss(logits, lesson.labels, sure)
        agreed = self._loss(logits, lesson.labels, sure & ~lesson.conflict)
        return agreed + self.conflict_weight * self._loss(logits, lesson.labels, sure & lesson.conflict)

    def _loss(self, logits: Tensor, labels: Tensor, keep: Tensor) -> Tensor:
        if self.unlabelled_loss == "ce":
            return kept_cross_entropy(logits, labels, keep, over="kept")
        return masked_parts(logits, one_hot(labels, logits.shape[1]), keep, dice=FORMS["ssl4mis"]).dice


def mixed(lesson: Lesson, order: Tensor, box: Tensor) -> Lesson:
    """`lesson` with that of another sample inside of the box."""
    inside = box.squeeze(1)
    return Lesson(*(torch.where(inside, each[order], each) for each in lesson))


@torch.no_grad()
def fuse(first: Tensor, second: Tensor) -> Lesson:
    """Labels of the mean of two softmaxes of logits `[B, C, *S]`, each weighted by exp(-its entropy in bits).

    Source: Zhao et al., ECCV 2024 (ZhenZHAO/AD-MT).
    """
    p, q = probabilities(first), probabilities(second)
    share = torch.sigmoid(entropy_bits(q) - entropy_bits(p)).unsqueeze(1)
    mean = share * p + (1 - share) * q
    confidence, labels = (mean / mean.sum(1, keepdim=True)).max(1)
    return Lesson(labels, confidence, p.max(1).indices != q.max(1).indices)


def entropy_bits(probabilities: Tensor) -> Tensor:
    """-sum p log2(p + 1e-10) over the classes, `[B, *S]`."""
    return -(probabilities * torch.log2(probabilities + 1e-10)).sum(1)


def heard(lesson: Lesson, student: Tensor) -> Lesson:
    """`lesson` with the student's own class where the teachers disagree, it says something else, and is surer of it.

    What is left of the conflict is where it says something else, whoever is surer.

    Args:
        student: its logits `[B, C, *S]`, of which no gradient is taken.
    """
    sure, own = confident_labels(student)
    conflict = lesson.conflict & (own != lesson.labels)
    takes = conflict & (sure > lesson.confidence)
    labels, confidence = torch.where(takes, own, lesson.labels), torch.where(takes, sure, lesson.confidence)
    return Lesson(labels, confidence, conflict)
