"""Losses against labels of a weak view, on the voxels where the network is sure of them."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Tensor

from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.losses import FORMS, kept_cross_entropy
from semiseg.ingredients.masked import masked_parts
from semiseg.ingredients.pseudo_labels import confident_labels
from semiseg.ingredients.reduce import batch_sum


class SureLabelOptions(BaseModel):
    """Which labels count and how; a method's options may include these."""

    unlabelled_loss: Literal["dice", "ce"] = Field(
        "dice", description="loss of the unlabelled terms: Dice over the sure voxels, or cross-entropy, over all"
    )
    threshold: float = Field(0.95, ge=0, le=1, description="least probability of a label that counts")

    def sure_loss(self, logits: Tensor, labels: Tensor, sure: Tensor) -> Tensor:
        """Of `logits` `[B, C, *S]` against `labels` where `sure`, their probability, is enough (both `[B, *S]`).

        The Dice is over all classes; the cross-entropy sums up over sure voxels and divides by the number of all.
        """
        keep = sure >= self.threshold
        if self.unlabelled_loss == "ce":
            return kept_cross_entropy(logits, labels, keep)
        return masked_parts(logits, one_hot(labels, logits.shape[1]), keep, dice=FORMS["ssl4mis"]).dice


def weighted_sure_loss(logits: Tensor, target: Tensor, threshold: float) -> Tensor:
    """Cross-entropy of `logits` against the labels of logits `target`, both `[B, C, *S]`, times their probability.

    The mean over the voxels whose label has at least the probability `threshold`; zero without any. No gradient flows
    to `target` (PS-MT, arXiv:2111.12903; TraCoCo, arXiv:2203.14523).
    """
    sure, labels = confident_labels(target)
    keep = (sure >= threshold).to(sure.dtype)
    losses = F.cross_entropy(full_precision(logits), labels, reduction="none")
    total, kept = batch_sum(torch.stack([(losses * sure * keep).sum(), keep.sum()]))
    mean: Tensor = total / kept.clamp(min=1)
    return mean
