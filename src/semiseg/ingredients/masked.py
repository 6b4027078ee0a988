"""Losses on chosen voxels only, against hard or soft targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.ingredients.class_sums import class_sums, full_precision, probabilities
from semiseg.ingredients.fusion import fusable
from semiseg.ingredients.levels import Reduction, View
from semiseg.ingredients.losses import DiceForm
from semiseg.ingredients.reduce import batch_sum

SoftCE = Literal["kl", "ce"]

BATCH_DICE = DiceForm(smooth=1e-8, squared=False, background=False, offset=1.0, scale=0.5)
"""Dice of ShanghaiTech-IMPACT/DuCiSC."""

SOFT_DICE = replace(BATCH_DICE, squared=True)
"""The same with squares, which is least where a prediction equals its soft label; without, at a hard mask."""


class Parts(NamedTuple):
    """Cross-entropy and Dice of one level, and how many voxels they are taken over."""

    ce: Tensor
    dice: Tensor
    kept: Tensor


def dice_ce_parts(logits: Tensor, labels: Tensor) -> Parts:
    """Mean cross-entropy and foreground Dice of `logits` `[B, C, *S]` on all voxels of `labels` `[B, *S]`."""
    sums = class_sums(logits, labels)
    kept = sums.voxels.sum()
    return Parts(sums.surprise.sum() / kept, dice_of_sums(sums.overlap, sums.mass + sums.voxels, BATCH_DICE), kept)


def masked_parts(
    logits: Tensor, target: Tensor, keep: Tensor, form: SoftCE = "ce", dice: DiceForm = BATCH_DICE
) -> Parts:
    """Cross-entropy and foreground Dice of `logits` `[B, C, *S]` on the voxels with `keep` `[B, *S]`.

    Without such a voxel both are finite and mean nothing.

    Args:
        target: probabilities `[B, C, *S]`.
        form: `ce`: cross-entropy with the soft label; `kl`: the divergence from it, over voxels and classes, as
            ShanghaiTech-IMPACT/DuCiSC averages it.
        dice: how the Dice is written.
    """
    table = batch_sum(_masked_table(logits, target, keep, form == "kl", dice.squared))
    overlap, mass = table[:-2].view(2, -1)
    ce, kept = table[-2:]
    return Parts(ce / kept.clamp(min=1), dice_of_sums(overlap, mass, dice), kept)


@fusable
def _masked_table(logits: Tensor, target: Tensor, keep: Tensor, divergence: bool, squared: bool) -> Tensor:
    """Overlap and mass of every class, then the surprise of the soft label and the number of kept voxels."""
    log_p = F.log_softmax(full_precision(logits), 1)
    weight = keep.unsqueeze(1).to(log_p.dtype)
    target = target.to(log_p.dtype) * weight
    p = log_p.exp() * weight
    space = (0, *range(2, p.ndim))
    surprise = -(target * log_p).sum()
    if divergence:  # kept targets are untouched by the weight, and the others are 0 log 0
        surprise = (surprise + torch.xlogy(target, target).sum()) / logits.shape[1]
    both = p.square() + target.square() if squared else p + target
    return torch.cat([(p * target).sum(space), both.sum(space), torch.stack([surprise, weight.sum()])])


def over_levels(parts: Sequence[Parts], reduction: Reduction = "mean") -> Tensor:
    """Mean over levels of half of cross-entropy plus Dice, or of their `sum`; zero if a level has no voxel.

    That is how DuCiSC leaves it out.
    """
    losses = torch.stack([(part.ce + part.dice) / 2 for part in parts])
    defined = torch.stack([part.kept > 0 for part in parts]).all()
    scale = 2.0 if reduction == "sum" else 1.0
    return scale * torch.where(defined, losses.mean(), 0.0)


def labelled_levels(logits: Sequence[Tensor], labels: Sequence[Tensor], reduction: Reduction = "mean") -> Tensor:
    """`dice_ce_parts` of logits `[B, C, *S_l]` at labels `[B, *S_l]`, `over_levels`."""
    return over_levels([dice_ce_parts(z, y) for z, y in zip(logits, labels, strict=True)], reduction)


def masked_levels(
    view: View,
    keep: Sequence[Tensor],
    form: SoftCE = "ce",
    reduction: Reduction = "mean",
    dice: DiceForm = BATCH_DICE,
) -> Tensor:
    """`masked_parts` of a view against its own masks, `over_levels`."""
    levels = zip(view.logits, view.masks, keep, strict=True)
    return over_levels([masked_parts(z, y, m, form, dice) for z, y, m in levels], reduction)


def masked_probability_mse(logits: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    """Squared difference of softmax(`logits`) and `target` `[B, C, *S]`, mean over kept voxels and classes.

    As yulequan/UA-MT and lemoshu/AC-MT; `keep` `[B, *S]`. Without a kept voxel it is zero.
    """
    p = probabilities(logits)
    weight = keep.unsqueeze(1).to(p.dtype)
    total, kept = batch_sum(torch.stack([((p - target.to(p.dtype)).square() * weight).sum(), weight.sum()]))
    mean: Tensor = total / (logits.shape[1] * kept.clamp(min=1))
    return mean


def dice_of_sums(overlap: Tensor, mass: Tensor, form: DiceForm) -> Tensor:
    """Dice loss of sums per class `[C]` over both operands: of their product, and of them (or their squares)."""
    ratio = (2 * overlap + form.smooth) / (mass + form.smooth + form.epsilon)
    return form.offset - ratio[0 if form.background else 1 :].mean()
