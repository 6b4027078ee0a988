"""Pseudo-labels that count: those above thresholds that follow the student."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from semiseg.ingredients.class_sums import class_sums
from semiseg.ingredients.horizon import HorizonOptions
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.methods.ducisc.alignment import Teach

CAP = 0.95
"""Largest clamped threshold, of the official code; the least one is 1/classes, where they start."""


class ThresholdOptions(HorizonOptions):
    """How self-aware thresholds follow the student."""

    threshold_momentum: float = Field(0.99, ge=0, le=1, description="share of the old self-aware threshold")
    threshold_clamp: bool = Field(True, description=f"keep self-aware thresholds between 1/classes and {CAP}")
    threshold_per_level: bool = Field(True, description="thresholds per class and level; false: per class, as printed")


class SelfAwareThresholds(nn.Module):
    """Probability thresholds per class and level that follow the student (DuCiSC, arXiv:2507.21440, Eq. 9).

    They start at 1/C. Each update moves that of a class to the student's mean probability of the class where it is the
    pseudo-label; classes that are absent keep theirs.

    Args:
        classes: number of classes.
        levels: number of decoder levels with thresholds of their own.
        momentum: share of the old value.
        bounds: lower and upper limit after each update, or None.
    """

    value: Tensor

    def __init__(self, classes: int, levels: int, momentum: float, bounds: tuple[float, float] | None) -> None:
        super().__init__()
        self.momentum, self.bounds = momentum, bounds
        self.register_buffer("value", torch.full((classes, levels), 1 / classes))

    def keep(self, level: int, probabilities: Tensor, labels: Tensor) -> Tensor:
        """Voxels whose probability of their pseudo-label is above its threshold."""
        of_label = probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
        return of_label > self.value[:, level].index_select(0, labels.flatten()).view_as(labels)

    @torch.no_grad()
    def update(self, level: int, logits: Tensor, labels: Tensor) -> None:
        """Follow the student's `logits` `[B, C, *S]` at the teacher's `labels` `[B, *S]`."""
        sums = class_sums(logits.detach(), labels)
        self.follow(level, sums.overlap / sums.voxels)

    @torch.no_grad()
    def follow(self, level: int, mean: Tensor) -> None:
        """Follow mean probabilities `[C]`; what is not above zero (0/0 of an absent class) changes nothing."""
        old = self.value[:, level]
        new = self.momentum * old + (1 - self.momentum) * mean.to(old.dtype)
        if self.bounds:
            new = new.clamp(*self.bounds)
        old.copy_(torch.where(mean > 0, new, old))


class SelfAwareSelection(nn.Module):
    """Selection of voxels by self-aware thresholds, at every level."""

    def __init__(self, options: ThresholdOptions, classes: int, levels: int, steps: int) -> None:
        super().__init__()
        o = options
        self.per_level = o.threshold_per_level
        bounds = (1 / classes, CAP) if o.threshold_clamp else None
        momentum = o.within(o.threshold_momentum, steps)
        self.thresholds = SelfAwareThresholds(classes, levels if self.per_level else 1, momentum, bounds)

    def keep(self, teach: Teach, images: Tensor, found: Sequence[Tensor], ramp: float) -> list[Tensor]:
        """Masks `[B, *S]` per level.

        Args:
            teach: the teacher, for selections that ask it again.
            images: `[B, channels, *S]`.
            found: the teacher's probabilities of them, per level.
            ramp: progress from 0 to 1, for selections whose limit rises.
        """
        levels = range(len(found)) if self.per_level else [0] * len(found)
        return [self.thresholds.keep(level, p, hard_labels(p)) for level, p in zip(levels, found, strict=True)]

    def follow(self, logits: Sequence[Tensor], labels: Sequence[Tensor]) -> None:
        """Update the thresholds by the student's logits at the teacher's labels, per level."""
        pairs = list(zip(logits, labels, strict=True))
        for level, (z, y) in enumerate(pairs if self.per_level else pairs[-1:]):
            self.thresholds.update(level, z, y)

    def observations(self) -> dict[str, Tensor]:
        """Thresholds of the classes, per level from coarse to fine."""
        return {f"threshold_{level}": row for level, row in enumerate(self.thresholds.value.unbind(1), 1)}
