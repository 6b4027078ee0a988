"""Cross-entropy and Dice per sample, as the left-atrium code after BCP writes them."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from semiseg.ingredients.class_sums import sample_sums
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, dice_ce

SampleDiceCE = DiceCE | Literal["sample"]
SAMPLE_DICE_CE_DOC = f"{DICE_CE_DOC}; `sample`, half of cross-entropy + Dice of every sample and class, no squares"
SMOOTH = 1e-5


def sample_dice(overlap: Tensor, mass: Tensor, voxels: Tensor) -> Tensor:
    """1 - mean over samples and classes, background included, of the Dice ratio of sums `[B, C]`.

    A class that is absent from a sample costs nearly 1/C there, unless nothing of it is predicted either.
    """
    return 1 - ((2 * overlap + SMOOTH) / (mass + voxels + SMOOTH)).mean()


def sample_dice_ce(logits: Tensor, target: Tensor, form: SampleDiceCE = "sample") -> Tensor:
    """Half of cross-entropy + Dice per sample of `logits` `[B, C, *S]`; other forms are those of `dice_ce`."""
    if form != "sample":
        return dice_ce(logits, target, form)
    if target.numel() == 0:
        return logits.sum()
    sums = sample_sums(logits, target)
    entropy = sums.surprise.sum() / target.numel()
    return (entropy + sample_dice(sums.overlap, sums.mass, sums.voxels)) / 2
