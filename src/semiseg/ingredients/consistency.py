"""Distances between the predictions of two networks or views."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.losses import DiceForm
from semiseg.ingredients.masked import dice_of_sums
from semiseg.ingredients.reduce import batch_sum


def probability_mse(logits: Tensor, target_logits: Tensor, *, mutual: bool = False) -> Tensor:
    """Mean over samples, classes and voxels of the squared difference of the softmaxes.

    The gradient goes to the first only, or to both if `mutual`.
    """
    target_logits = target_logits if mutual else target_logits.detach()
    if logits.numel() == 0:
        return logits.sum() + target_logits.sum()
    target = torch.softmax(full_precision(target_logits), 1)
    return F.mse_loss(torch.softmax(full_precision(logits), 1), target)


def probability_dice(logits: Tensor, target: Tensor, form: DiceForm, *, pooled: bool = False) -> Tensor:
    """Dice loss of softmax(`logits`) against probabilities `target` `[B, C, *S]`, sums over the whole batch.

    Args:
        form: how the Dice is written.
        pooled: one ratio for all classes together instead of the mean over classes.
    """
    p = torch.softmax(full_precision(logits), 1)
    space = (0, *range(2, p.ndim))
    both = p.square() + target.square() if form.squared else p + target
    sums = batch_sum(torch.stack([(p * target).sum(space), both.sum(space)]))
    overlap, mass = sums.sum(1, keepdim=True) if pooled else sums
    return dice_of_sums(overlap, mass, form)


def add_noise(images: Tensor, normal: Tensor, deviation: float) -> Tensor:
    """`images` plus `deviation` times the standard normal draw `normal`, cut at two deviations."""
    return images + (deviation * normal).clamp(-2 * deviation, 2 * deviation)
