"""Class weights that follow the training: difficulty and distribution (DHC, MICCAI 2023)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from semiseg.ingredients.class_sums import class_counts
from semiseg.ingredients.losses import STRICT_DOC, hard_dice
from semiseg.ingredients.modules import ModuleListOf
from semiseg.ingredients.reduce import batch_sum

Weighting = Literal["diff", "dist", "none"]
WEIGHTING_DOC = "class weights of the network: `diff`, by difficulty; `dist`, by rarity; `none`"

EPS = 1e-8
ALPHA = 0.2
"""Exponent of unlearning over learning in the weights by difficulty."""


class ClassWeightOptions(BaseModel):
    """Class weights of two networks; a method's options may include these."""

    weights_a: Weighting = Field("none", description=WEIGHTING_DOC)
    weights_b: Weighting = Field("none", description=WEIGHTING_DOC)
    window: float = Field(
        50.0,
        ge=1,
        description="steps over which the rises and falls of the Dice are averaged for weights by difficulty",
    )
    momentum: float = Field(0.99, ge=0, lt=1, description="share of the old weights in weights by rarity")
    strict: bool = Field(False, description=STRICT_DOC)


class ClassWeights(nn.Module, ABC):
    """Weights `[C]` in [0, C], updated from the hard predictions of every batch; all state is in buffers."""

    weight: Tensor

    @abstractmethod
    def update(self, predicted: Tensor, labels: Tensor) -> Tensor:
        """New weights from class indices `predicted` `[B, *S]` and the `labels` `[n, *S]` of the first n of them."""


class DiffDW(ClassWeights):
    """Weights by difficulty: classes whose Dice on labelled patches is low, or falls as often as it rises.

    Args:
        classes: number of classes, background included.
        window: steps over which rises and falls of the Dice are averaged (tau).
    """

    def __init__(self, classes: int, window: float = 50.0) -> None:
        super().__init__()
        self.keep = (window - 1.0) / window
        self.register_buffer("weight", torch.ones(classes))
        self.register_buffer("dice", torch.full((classes,), EPS))
        self.register_buffer("learned", torch.zeros(classes))
        self.register_buffer("unlearned", torch.zeros(classes))
        self.register_buffer("missing", torch.ones(classes))

    dice: Tensor
    learned: Tensor
    unlearned: Tensor
    missing: Tensor

    @torch.no_grad()
    def update(self, predicted: Tensor, labels: Tensor) -> Tensor:
        if len(labels):
            self.follow(hard_dice(predicted[: len(labels)], labels, len(self.weight)))
        return self.weight.clone()

    @torch.no_grad()
    def follow(self, dice: Tensor) -> None:
        """Take the Dice per class `[C]` of the next batch."""
        change, growth = dice - self.dice, torch.log(dice / self.dice)
        self.learned.lerp_(change.clamp(min=0) * growth, 1 - self.keep)
        self.unlearned.lerp_(change.clamp(max=0) * growth, 1 - self.keep)
        self.missing.lerp_(1 - dice, 1 - self.keep)
        self.dice.copy_(dice)
        raw = ((self.unlearned + EPS) / (self.learned + EPS)) ** ALPHA * self.missing
        self.weight.copy_(len(raw) * raw / raw.max())


class DistDW(ClassWeights):
    """Weights by rarity among pseudo-labels: 0 for the most frequent class, the number of classes for the rarest.

    Args:
        counts: voxels per class of the labelled scans, where the weights start.
        momentum: share of the old weights in the new ones.
        strict: give NaN for equally frequent classes, as the official code does, instead of keeping the weights.
    """

    def __init__(self, counts: Sequence[float], momentum: float = 0.99, *, strict: bool = False) -> None:
        super().__init__()
        self.momentum = momentum
        self.strict = strict
        start = rarity(torch.tensor(counts, dtype=torch.float32))
        self.register_buffer("weight", start if strict else torch.where(start.isnan(), 1.0, start))

    @torch.no_grad()
    def update(self, predicted: Tensor, labels: Tensor) -> Tensor:
        if len(predicted) > len(labels):
            self.follow(batch_sum(class_counts(predicted[len(labels) :], len(self.weight))))
        return self.weight.clone()

    @torch.no_grad()
    def follow(self, counts: Tensor) -> None:
        """Take the voxels per class `[C]` of the next pseudo-labels."""
        new = self.momentum * self.weight + (1 - self.momentum) * rarity(counts.float())
        self.weight.copy_(new if self.strict else torch.where(new.isnan(), self.weight, new))


class EqualWeights(ClassWeights):
    """Weight 1 for every class."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(classes))

    def update(self, predicted: Tensor, labels: Tensor) -> Tensor:
        return self.weight.clone()


def rarity(counts: Tensor) -> Tensor:
    """C ln(max/n_c) / max_c ln(max/n_c) of voxel counts `[C]`; NaN where all counts are equal."""
    rare = torch.log((counts.max() + EPS) / (counts + EPS))
    return len(counts) * rare / rare.max()


def make_weights(
    kind: Weighting, counts: Sequence[float], window: float, momentum: float, *, strict: bool
) -> ClassWeights:
    """The weights called `kind`; arguments as of `DiffDW` and `DistDW`."""
    if kind == "diff":
        return DiffDW(len(counts), window)
    return DistDW(counts, momentum, strict=strict) if kind == "dist" else EqualWeights(len(counts))


def make_both_weights(options: ClassWeightOptions, counts: Sequence[float]) -> ModuleListOf[ClassWeights]:
    """Weights of the two networks; `counts` are voxels per class of the labelled scans."""
    o = options
    return ModuleListOf(
        make_weights(kind, counts, o.window, o.momentum, strict=o.strict) for kind in (o.weights_a, o.weights_b)
    )
