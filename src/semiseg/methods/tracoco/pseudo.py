"""Confident regularised cross-entropy: what a voxel is, where that is sure, and what it is not, where that is."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.reduce import batch_sum
from semiseg.ingredients.sure_labels import weighted_sure_loss

Complement = Literal["others", "all"]


def confident_loss(
    logits: Tensor, target: Tensor, threshold: float, least: float, complement: Complement = "others"
) -> Tensor:
    """Loss of `logits` against logits `target` `[B, C, *S]`, which get no gradient.

    The sum of `weighted_sure_loss` and of -log(1 - p), times the target's smallest probability, over the voxels where
    that is below `least`; of two classes for the other class, of more as a mean over them.

    Args:
        complement: classes in the second part: the `others` than the label, or `all`, the label's twice, as the code
            for several classes has it.
    """
    q, p = probabilities(target.detach()), probabilities(logits)
    label = one_hot(q.max(1).indices, q.shape[1], q.dtype)
    weight = 1 - label if complement == "others" else 1 + label
    smallest = q.amin(1)
    keep = (smallest < least).to(q.dtype)
    terms = -(weight * torch.log((1 - p).clamp(1e-6, 1))).sum(1) / (1 if q.shape[1] == 2 else q.shape[1])
    total, kept = batch_sum(torch.stack([(terms * smallest * keep).sum(), keep.sum()]))
    negative: Tensor = total / kept.clamp(min=1)
    return weighted_sure_loss(logits, target, threshold) + negative
