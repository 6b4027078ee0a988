"""Class weights, fixed or following the training: by difficulty, by rarity, by rank, by distance, by labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from semiseg.ingredients.class_sums import class_counts
from semiseg.ingredients.horizon import HorizonOptions
from semiseg.ingredients.losses import hard_dice
from semiseg.ingredients.reduce import batch_sum
from semiseg.networks.modules import ModuleListOf

Weighting = Literal["diff", "dist", "crest", "simis", "cld", "none"]
WEIGHTING_DOC = (
    "class weights of the network: `diff`, by difficulty; `dist`, by rarity; `crest`, by reversed rank; `simis`, by "
    "distance from the majority; `cld`, by labelled voxels, fixed; `none`"
)
Rule = Callable[[Tensor], Tensor]
"""From voxels per class `[C]` to weights `[C]`."""

EPS = 1e-8
ALPHA = 0.2
"""Exponent of unlearning over learning in the weights by difficulty."""


class ClassWeightOptions(HorizonOptions):
    """Class weights of two networks; a method's options may include these."""

    weights_a: Weighting = Field("none", description=WEIGHTING_DOC)
    weights_b: Weighting = Field("none", description=WEIGHTING_DOC)
    window: float = Field(
        50.0,
        ge=1,
        description="steps over which the rises and falls of the Dice are averaged for weights by difficulty",
    )
    momentum: float = Field(0.99, ge=0, lt=1, description="share of the old weights in those that follow counts")


class ClassWeights(nn.Module, ABC):
    """Weights `[C]`, updated from the hard predictions of every batch; all state is in buffers."""

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


class CountedWeights(ClassWeights):
    """Weights that follow how often classes are predicted: w <- momentum w + (1 - momentum) rule(voxels per class).

    Args:
        start: the first weights `[C]`.
        rule: from voxels per class to weights.
        momentum: share of the old weights in the new ones.
        on: which predictions of a batch count.
        strict: take NaN of the rule over, as official code does, instead of keeping the weights.
    """

    def __init__(
        self,
        start: Tensor,
        rule: Rule,
        momentum: float = 0.99,
        *,
        on: Literal["unlabelled", "all"] = "unlabelled",
        strict: bool = False,
    ) -> None:
        super().__init__()
        self.rule, self.momentum, self.on, self.strict = rule, momentum, on, strict
        self.register_buffer("weight", start.float())

    @torch.no_grad()
    def update(self, predicted: Tensor, labels: Tensor) -> Tensor:
        counted = predicted if self.on == "all" else predicted[len(labels) :]
        if len(counted):
            self.follow(batch_sum(class_counts(counted, len(self.weight))))
        return self.weight.clone()

    @torch.no_grad()
    def follow(self, counts: Tensor) -> None:
        """Take the voxels per class `[C]` of the next pseudo-labels."""
        new = self.momentum * self.weight + (1 - self.momentum) * self.rule(counts.float())
        self.weight.copy_(new if self.strict else torch.where(new.isnan(), self.weight, new))


class DistDW(CountedWeights):
    """Weights by rarity among pseudo-labels: 0 for the most frequent class, the number of classes for the rarest.

    Args:
        counts: voxels per class of the labelled scans, where the weights start.
        momentum: share of the old weights in the new ones.
        strict: give NaN for equally frequent classes, as the official code does, instead of keeping the weights.
    """

    def __init__(self, counts: Sequence[float], momentum: float = 0.99, *, strict: bool = False) -> None:
        start = rarity(_tensor(counts))
        super().__init__(start if strict else torch.where(start.isnan(), 1.0, start), rarity, momentum, strict=strict)


class FixedWeights(ClassWeights):
    """The same `weight` `[C]` all the time."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.float())

    def update(self, predicted: Tensor, labels: Tensor) -> Tensor:
        return self.weight.clone()


class EqualWeights(FixedWeights):
    """Weight 1 for every class."""

    def __init__(self, classes: int) -> None:
        super().__init__(torch.ones(classes))


def rarity(counts: Tensor) -> Tensor:
    """C ln(max/n_c) / max_c ln(max/n_c) of voxel counts `[C]`; NaN where all counts are equal."""
    rare = torch.log((counts.max() + EPS) / (counts + EPS))
    return len(counts) * rare / rare.max()


def reversed_shares(counts: Tensor, exponent: float = 1 / 3) -> Tensor:
    """Shares mu = (n_c/max)^exponent of voxel counts `[C]`, dealt out in reverse: the most frequent gets the least.

    The class at rank l gets the mu of rank C - 1 - l, so the rarest has 1; ties keep the order of the classes. With k
    absent classes the k most frequent ones have nearly 0.
    """
    shares = ((counts + EPS) / (counts.max() + EPS)) ** exponent
    ranked, order = torch.sort(shares, descending=True, stable=True)
    return torch.empty_like(shares).scatter_(0, order, ranked.flip(0))


def majority_distance(counts: Tensor) -> Tensor:
    """Distance max P - P_c of the shares P of voxel counts `[C]`: 0 for the majority, max P for an absent class."""
    shares = (counts + EPS) / (counts.sum() + EPS)
    return shares.max() - shares


def inverse_roots(counts: Tensor, exponent: float = 1 / 3) -> Tensor:
    """(max/n_c)^exponent of voxel counts `[C]`, which count as at least one voxel: 1 for the most frequent class."""
    return (counts.max() / counts.clamp(min=1)) ** exponent


def crest_weights(counts: Sequence[float], momentum: float = 0.99, exponent: float = 1 / 3) -> CountedWeights:
    """Weights by reversed rank of the predictions on unlabelled patches, from those of the labelled scans on."""
    rule = partial(reversed_shares, exponent=exponent)
    return CountedWeights(rule(_tensor(counts)), rule, momentum)


def simis_weights(counts: Sequence[float], momentum: float = 0.99) -> CountedWeights:
    """C times the distance from the majority in the predictions on all patches; begins at C, then the labels."""
    start = torch.full((len(counts),), float(len(counts)))
    weights = CountedWeights(start, _scaled_distance, momentum, on="all")
    weights.follow(_tensor(counts))
    return weights


def make_weights(
    kind: Weighting, counts: Sequence[float], window: float, momentum: float, *, strict: bool
) -> ClassWeights:
    """The weights called `kind`; arguments as of `DiffDW` and `DistDW`."""
    match kind:
        case "diff":
            return DiffDW(len(counts), window)
        case "dist":
            return DistDW(counts, momentum, strict=strict)
        case "crest":
            return crest_weights(counts, momentum)
        case "simis":
            return simis_weights(counts, momentum)
        case "cld":
            return FixedWeights(inverse_roots(_tensor(counts)))
        case "none":
            return EqualWeights(len(counts))


def make_both_weights(
    options: ClassWeightOptions, counts: Sequence[float], steps: int, *, strict: bool = False
) -> ModuleListOf[ClassWeights]:
    """Weights of the two networks in a run of so many `steps`; `counts` are voxels per class of the labelled scans."""
    o = options
    window, momentum = o.reach(o.window, steps), o.within(o.momentum, steps)
    return ModuleListOf(
        make_weights(kind, counts, window, momentum, strict=strict) for kind in (o.weights_a, o.weights_b)
    )


def _scaled_distance(counts: Tensor) -> Tensor:
    return len(counts) * majority_distance(counts)


def _tensor(counts: Sequence[float]) -> Tensor:
    return torch.tensor(counts, dtype=torch.float32)
