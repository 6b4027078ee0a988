"""Distances between the predictions of two networks or views."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.fusion import fusable
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, DiceForm
from semiseg.ingredients.masked import dice_of_sums
from semiseg.ingredients.ramps import RampOptions
from semiseg.ingredients.reduce import batch_sum
from semiseg.networks.base import Init


class ConsistencyOptions(RampOptions):
    """What methods have in common that keep a network to the probabilities that a noisy pass gave."""

    loss: DiceCE = Field("ssl4mis", description=DICE_CE_DOC)
    weight: float = Field(0.1, ge=0, description="weight of the consistency after the ramp-up")
    noise: float = Field(0.1, ge=0, description="deviation of the input noise, cut at two deviations")
    init: Init = Field("default", description="initialisation of the convolutions")


def probability_mse(logits: Tensor, target_logits: Tensor, *, mutual: bool = False) -> Tensor:
    """Mean over samples, classes and voxels of the squared difference of the softmaxes.

    The gradient goes to the first only, or to both if `mutual`.
    """
    target_logits = target_logits if mutual else target_logits.detach()
    if logits.numel() == 0:
        return logits.sum() + target_logits.sum()
    return _squared_difference(logits, target_logits)


@fusable
def _squared_difference(logits: Tensor, others: Tensor) -> Tensor:
    return F.mse_loss(probabilities(logits), probabilities(others))


def probability_dice(logits: Tensor, target: Tensor, form: DiceForm, *, pooled: bool = False) -> Tensor:
    """Dice loss of softmax(`logits`) against probabilities `target` `[B, C, *S]`, sums over the whole batch.

    Args:
        form: how the Dice is written.
        pooled: one ratio for all classes together instead of the mean over classes.
    """
    p = probabilities(logits)
    space = (0, *range(2, p.ndim))
    both = p.square() + target.square() if form.squared else p + target
    sums = batch_sum(torch.stack([(p * target).sum(space), both.sum(space)]))
    overlap, mass = sums.sum(1, keepdim=True) if pooled else sums
    return dice_of_sums(overlap, mass, form)


def add_noise(images: Tensor, normal: Tensor, deviation: float) -> Tensor:
    """`images` plus `deviation` times the standard normal draw `normal`, cut at two deviations."""
    return images + (deviation * normal).clamp(-2 * deviation, 2 * deviation)


def noisy(images: Tensor, deviation: float) -> Tensor:
    """`images` with noise of this deviation drawn from torch's default generator; unchanged without any."""
    return add_noise(images, torch.randn_like(images), deviation) if deviation else images
