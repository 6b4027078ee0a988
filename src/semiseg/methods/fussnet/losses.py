"""Losses of the four branches, on all voxels or on chosen ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.ingredients.class_sums import full_precision, probabilities
from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.reduce import batch_sum
from semiseg.ingredients.sample_losses import SMOOTH

BranchLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def cross_entropy(logits: Tensor, target: Tensor, keep: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of `logits` `[B, C, *S]` at `target` `[B, *S]` over the voxels in `keep`, or over all."""
    return _mean(F.cross_entropy(full_precision(logits), target, reduction="none"), keep)


def focal(logits: Tensor, target: Tensor, keep: Tensor | None = None) -> Tensor:
    """Mean of -(1 - p)^2 log p, p that of the target; the first factor has no gradient."""
    surprise = F.cross_entropy(full_precision(logits), target, reduction="none")
    return _mean((1 - (-surprise.detach()).exp()).square() * surprise, keep)


def dice(logits: Tensor, target: Tensor, keep: Tensor | None = None) -> Tensor:
    """1 - mean over samples and classes, background included, of Dice ratios without squares.

    Absent from both, a class has the ratio 1.
    """
    overlap, mass = _sums(logits, target, keep)
    return 1 - ((2 * overlap + SMOOTH) / (mass + SMOOTH)).mean()


def iou(logits: Tensor, target: Tensor, keep: Tensor | None = None) -> Tensor:
    """The same with ratios of intersection and union."""
    overlap, mass = _sums(logits, target, keep)
    return 1 - ((overlap + SMOOTH) / (mass - overlap + SMOOTH)).mean()


LOSSES: tuple[BranchLoss, ...] = (cross_entropy, dice, focal, iou)
"""What each branch learns with."""


def supervised(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Mean of the losses of the branches on all voxels."""
    return torch.stack([loss(z, labels, None) for loss, z in zip(LOSSES, logits, strict=True)]).mean()


def certain(logits: Sequence[Tensor], labels: Tensor, keep: Tensor, *, mask_all: bool) -> Tensor:
    """Mean of the losses of the branches at pseudo-labels; zero without a certain voxel.

    Args:
        logits: of each branch, `[B, C, *S]`.
        labels, keep: `[B, *S]`; which voxels are certain.
        mask_all: false: cross-entropy and focal loss are means over *all* voxels, Dice and intersection over union are
            on certain ones, as in grant-jpg/FUSSNet; true: all are on certain ones.
    """
    whole = () if mask_all else (cross_entropy, focal)
    pairs = zip(LOSSES, logits, strict=True)
    parts = [loss(z, labels, None if loss in whole else keep) for loss, z in pairs]
    found = batch_sum(keep.sum()) > 0
    return torch.where(found, torch.stack(parts).mean(), 0.0)


def uncertain(logits: Sequence[Tensor], teacher: Sequence[Tensor], keep: Tensor) -> Tensor:
    """Squared difference of probabilities, summed over classes, mean over the voxels in `keep` and the branches."""
    pairs = zip(logits, teacher, strict=True)
    found = [(probabilities(z) - probabilities(t).detach()).square().sum(1) for z, t in pairs]
    return torch.stack([_mean(each, keep) for each in found]).mean()


def _mean(values: Tensor, keep: Tensor | None) -> Tensor:
    """Mean of `values` `[B, *S]` over the voxels in `keep`; zero where there is none."""
    if keep is None:
        return values.mean()
    total, kept = batch_sum(torch.stack([(values * keep).sum(), keep.sum().to(values.dtype)]))
    mean: Tensor = total / kept.clamp(min=1)
    return mean


def _sums(logits: Tensor, target: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """Per sample and class the sums of p y and of p + y, each `[B, C]`."""
    p = probabilities(logits)
    y = one_hot(target, p.shape[1], p.dtype)
    if keep is not None:
        weight = keep.unsqueeze(1).to(p.dtype)
        p, y = p * weight, y * weight
    return (p * y).flatten(2).sum(2), (p + y).flatten(2).sum(2)
