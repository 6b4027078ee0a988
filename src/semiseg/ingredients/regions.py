"""Losses of images that are made of parts: each part has labels of its own origin and counts on its own."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.reduce import batch_sum
from semiseg.ingredients.sample_losses import sample_dice

RegionDice = Literal["sample", "batch"]
REGION_DICE_DOC = (
    "Dice of a part of an image, background included: `sample`, per sample and class, no squares (BCP on the left "
    "atrium); `batch`, per class over the batch, squares (BCP on ACDC)"
)
_SMOOTH = 1e-10


def region_dice_ce(logits: Tensor, labels: Tensor, where: Tensor, dice: RegionDice = "batch") -> Tensor:
    """Half of cross-entropy + Dice of `logits` `[B, C, *S]` against `labels` `[B, *S]` on the voxels of `where` alone.

    The mean of the cross-entropy is over these voxels; where there are none the loss is zero. As DeepMed-Lab-ECNU/BCP.

    Args:
        where: bool `[*S]`, the same for all samples.
    """
    if logits.numel() == 0:
        return logits.sum()
    log_p = F.log_softmax(full_precision(logits), 1)
    keep = where.to(log_p.dtype)
    hit = one_hot(labels, logits.shape[1], log_p.dtype) * keep
    p = log_p.exp() * keep
    space = tuple(range(2, p.ndim))
    surprise, voxels = -(hit * log_p).sum(), keep.sum() * len(logits)
    entropy = surprise / voxels.clamp(min=1)
    if dice == "sample":
        return (entropy + sample_dice((p * hit).sum(space), p.sum(space), hit.sum(space))) / 2
    sums = batch_sum(torch.stack([(p * hit).sum((0, *space)), (p.square() + hit).sum((0, *space))]))
    ratio = (2 * sums[0] + _SMOOTH) / (sums[1] + _SMOOTH)
    return (entropy + 1 - ratio.mean()) / 2
