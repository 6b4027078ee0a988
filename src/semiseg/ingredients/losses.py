"""Supervised losses in the forms of the official code bases, and the cross-entropy of pseudo-labels.

Logits are `[B, C, *S]`, targets class indices `[B, *S]`; softmax and sums are taken in float32 or better. A loss that
is undefined for a batch (nothing to compare) is zero with zero gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.ingredients.class_sums import ClassSums, class_counts, class_sums, full_precision
from semiseg.ingredients.reduce import batch_sum

DiceCE = Literal["dhc", "ssl4mis", "la", "dhc_half"]
DICE_CE_DOC = (
    "supervised loss: `ssl4mis`, half of cross-entropy + Dice with squares over all classes; `la`, the same with "
    "foreground Dice; `dhc`, cross-entropy - foreground Dice with smooth 1; `dhc_half`, half of that with smooth 1e-8"
)
STRICT_DOC = "let undefined class weights and weighted means become NaN, as in the official code, instead of zero"


@dataclass(frozen=True)
class DiceForm:
    """How a code base writes the soft Dice loss, and the factor of its sum with the cross-entropy.

    Attributes:
        smooth: added to numerator and denominator.
        squared: sums of squares in the denominator instead of plain sums.
        background: class 0 counts like the others.
        offset: the loss is offset - mean of the ratios.
        scale: factor of (cross-entropy + Dice).
        epsilon: added to the denominator only.
    """

    smooth: float
    squared: bool
    background: bool
    offset: float
    scale: float
    epsilon: float = 0.0


FORMS: dict[DiceCE, DiceForm] = {
    "dhc": DiceForm(smooth=1.0, squared=False, background=False, offset=0.0, scale=1.0, epsilon=1e-8),
    "ssl4mis": DiceForm(smooth=1e-5, squared=True, background=True, offset=1.0, scale=0.5),
    "la": DiceForm(smooth=1e-5, squared=True, background=False, offset=1.0, scale=0.5),
    "dhc_half": DiceForm(smooth=1e-8, squared=False, background=False, offset=0.0, scale=0.5, epsilon=1e-8),
}


def dice_ce(
    logits: Tensor, target: Tensor, form: DiceCE = "dhc", weight: Tensor | None = None, *, strict: bool = False
) -> Tensor:
    """Cross-entropy plus soft Dice over the whole batch, from one softmax.

    Args:
        form: `dhc` (xmed-lab/DHC): CE - mean foreground Dice with smooth 1; it goes down to -1.
            `ssl4mis` (HiLab-git/SSL4MIS): half of CE + (1 - Dice with squares), background included.
            `la` (yulequan/UA-MT): the same over the foreground classes.
            `dhc_half` (UA-MT and URPC in xmed-lab/DHC): half of CE - mean foreground Dice with smooth 1e-8.
        weight: `[C]`, weighs both parts as in `cross_entropy` and `soft_dice`.
        strict: see `cross_entropy`.
    """
    if target.numel() == 0:
        return logits.sum()
    chosen = FORMS[form]
    sums = class_sums(logits, target, squared=chosen.squared)
    return chosen.scale * (_weighted_mean(sums, weight, strict) + _dice(sums, chosen, weight))


def soft_dice(logits: Tensor, target: Tensor, form: DiceForm = FORMS["dhc"], weight: Tensor | None = None) -> Tensor:
    """Soft Dice loss over the whole batch; `weight` `[C]` multiplies the ratio of each class before the mean."""
    if target.numel() == 0:
        return logits.sum()
    return _dice(class_sums(logits, target, squared=form.squared), form, weight)


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None, *, strict: bool = False) -> Tensor:
    """Mean cross-entropy over all voxels, or the mean weighted by `weight` `[C]` at the target's class.

    Args:
        strict: give NaN, as the official code does, instead of zero where all targets have weight zero.
    """
    if target.numel() == 0:
        return logits.sum()
    logits = full_precision(logits)
    if weight is None:
        return F.cross_entropy(logits, target)
    weight = weight.to(logits.dtype)
    total = F.cross_entropy(logits, target, weight, reduction="sum")
    summed = weight.index_select(0, target.flatten()).sum()
    total, summed = batch_sum(torch.stack([total, summed]))
    return _ratio(total, summed, strict)


def kept_cross_entropy(
    logits: Tensor,
    target: Tensor,
    keep: Tensor,
    weight: Tensor | None = None,
    over: Literal["all", "kept"] = "all",
) -> Tensor:
    """Cross-entropy of every voxel times `keep` `[B, *S]` and `weight` `[C]` of its target, as a mean.

    Args:
        over: the mean divides by the number of *all* voxels, or by the sum of `keep` (zero where that is zero).
    """
    if target.numel() == 0:
        return logits.sum()
    logits = full_precision(logits)
    weight = None if weight is None else weight.to(logits.dtype)
    total = (F.cross_entropy(logits, target, weight, reduction="none") * keep).sum()
    if over == "all":
        return total / target.numel()
    total, kept = batch_sum(torch.stack([total, keep.sum().to(total.dtype)]))
    return _ratio(total, kept, strict=False)


def cross_pseudo_loss(
    logits: Sequence[Tensor],
    labels: Sequence[Tensor],
    weights: Sequence[Tensor | None] = (None, None),
    *,
    strict: bool = False,
) -> Tensor:
    """Cross pseudo supervision: the logits of nets A and B against each other's hard labels.

    Args:
        logits: of A and of B, `[B, C, *S]`.
        labels: hard labels by A and by B, `[B, *S]`.
        weights: class weights `[C]` of the loss of A and of B.
        strict: see `cross_entropy`.
    """
    a, b = logits
    by_a, by_b = labels
    return cross_entropy(a, by_b, weights[0], strict=strict) + cross_entropy(b, by_a, weights[1], strict=strict)


def hard_dice(predicted: Tensor, target: Tensor, classes: int, smooth: float = 1e-8) -> Tensor:
    """Dice per class `[classes]` of two label maps of equal shape, over the batch, as xmed-lab/DHC counts it.

    A class in neither map has 0.5, a class in one of them nearly 0.
    """
    agreed = torch.where(predicted == target, target, classes)
    counts = [class_counts(labels, classes + 1)[:classes] for labels in (agreed, predicted, target)]
    table = batch_sum(torch.stack(counts)).float()
    return (2 * table[0] + smooth) / (table[1] + table[2] + smooth + 1e-8)


def _weighted_mean(sums: ClassSums, weight: Tensor | None, strict: bool) -> Tensor:
    if weight is None:
        return sums.surprise.sum() / sums.voxels.sum()
    weight = weight.to(sums.voxels.dtype)
    # Products and sums: a matrix product would be taken in half precision under autocast.
    return _ratio((weight * sums.surprise).sum(), (weight * sums.voxels).sum(), strict)


def _ratio(total: Tensor, weight: Tensor, strict: bool) -> Tensor:
    # With no weight at all the total is zero too, so that dividing by one gives the zero and its zero gradient.
    quotient: Tensor = total / (weight if strict else torch.where(weight > 0, weight, 1.0))
    return quotient


def _dice(sums: ClassSums, form: DiceForm, weight: Tensor | None) -> Tensor:
    ratio = (2 * sums.overlap + form.smooth) / (sums.mass + sums.voxels + form.smooth + form.epsilon)
    if weight is not None:
        ratio = ratio * weight.to(ratio.dtype)
    return form.offset - ratio[0 if form.background else 1 :].mean()
