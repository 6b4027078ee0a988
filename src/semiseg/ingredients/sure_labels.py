"""Losses against labels of a weak view, on the voxels where the network is sure of them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field
from torch import Tensor

from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.losses import FORMS, kept_cross_entropy
from semiseg.ingredients.masked import masked_parts


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
