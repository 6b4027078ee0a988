"""Class prototypes: mean features of classes, and how far apart those of two groups of images are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.levels import LevelOptions, Reduction, View
from semiseg.ingredients.reduce import batch_sum

Pairing = Literal["batch", "image"]
Absent = Literal["level", "class"]


class PrototypeOptions(LevelOptions):
    """Which prototypes are compared; a method's options may include these."""

    pairing: Pairing = Field(
        "batch", description="`batch`: mean prototypes of the patches; `image`: patch against patch, as printed"
    )
    absent: Absent = Field(
        "level", description="what a class that a patch lacks takes out of the prototypes: the level, or the class"
    )


class PrototypeSums(NamedTuple):
    """What prototypes are quotients of: sums of features `totals` `[B, C, Z]` and of masks `weight` `[B, C]`."""

    totals: Tensor
    weight: Tensor

    def quotient(self) -> Prototypes:
        """Mean features; no epsilon and no normalisation (DuCiSC, arXiv:2507.21440, Eq. 3), 0 for an absent class."""
        present = self.weight > 0
        return Prototypes(self.totals / torch.where(present, self.weight, 1.0).unsqueeze(2), present)


class Prototypes(NamedTuple):
    """Mean features `means` `[B, C, Z]` of the classes in each image, and which classes are `present` `[B, C]`."""

    means: Tensor
    present: Tensor


def prototypes(features: Tensor, masks: Tensor) -> Prototypes:
    """Mean of `features` `[B, Z, *S]` weighted by `masks` `[B, C, *S]` (hard or soft), per image and class."""
    return prototype_sums(features, masks).quotient()


def prototype_sums(features: Tensor, masks: Tensor) -> PrototypeSums:
    """The sums of `prototypes`, in full precision."""
    # A matrix product would be taken in half precision under autocast.
    with torch.autocast(features.device.type, enabled=False):
        features = full_precision(features).flatten(2)
        masks = masks.to(features.dtype).flatten(2)
        return PrototypeSums(masks @ features.transpose(1, 2), masks.sum(2))


def level_prototypes(view: View) -> list[Prototypes]:
    """Prototypes of a view at each of its levels."""
    return [prototypes(f, m) for f, m in zip(view.features, view.masks, strict=True)]


def prototype_loss(
    a: Sequence[Prototypes],
    b: Sequence[Prototypes],
    pairing: Pairing = "batch",
    absent: Absent = "level",
    reduction: Reduction = "mean",
) -> Tensor:
    """Squared distance of the prototypes of two groups of images over levels (DuCiSC, Eq. 4 and 7).

    Gradient flows to both groups; without a usable level the loss is zero with zero gradient. `aligned_levels` tells
    which levels were usable.

    Args:
        a, b: prototypes per level, of equal classes and channels.
        pairing: `batch`: mean prototype of one group against that of the other, as in the official code; `image`: the
            n-th image of `b` against the n-th of `a` (taken in turn), as the paper writes.
        absent: `level`: a class that is missing in an image drops the whole level (of the pair); `class`: only the
            class, and with `batch` only that image of it.
        reduction: `mean` over levels, classes and channels, or `sum` over levels and channels and mean over classes.
    """
    return aligned_levels(a, b, pairing, absent, reduction)[0]


def aligned_levels(
    a: Sequence[Prototypes], b: Sequence[Prototypes], pairing: Pairing, absent: Absent, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """`prototype_loss`, and 1 for each level that was usable, else 0, `[levels]`."""
    parts = [_distance(_paired(x, y, pairing, absent), pairing, absent) for x, y in zip(a, b, strict=True)]
    usable = torch.stack([usable for _, usable in parts])
    if reduction == "sum":
        return torch.stack([value * x.means.shape[2] for (value, _), x in zip(parts, a, strict=True)]).sum(), usable
    return torch.stack([value for value, _ in parts]).sum() / usable.sum().clamp(min=1), usable


class UsableLevels(nn.Module):
    """How often prototypes could be compared: per level the share of batches so far, which a run logs.

    A level without prototypes of one class on either side takes no part (`absent: level`), silently but for this.
    """

    found: Tensor
    asked: Tensor

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.register_buffer("found", torch.zeros(levels))
        self.register_buffer("asked", torch.zeros(()))

    @torch.no_grad()
    def count(self, usable: Tensor) -> None:
        """Add a batch in which these levels were `usable` `[levels]`."""
        self.found += usable.to(self.found.dtype)
        self.asked += 1

    @property
    def share(self) -> Tensor:
        """Share of batches per level, coarse to fine; 0 before the first."""
        return self.found / self.asked.clamp(min=1)


def matching_score(a: Prototypes, b: Prototypes) -> Tensor:
    """Semantic matching Q of labelled images `a` and unlabelled ones `b` at one level (DuCiSC, Eq. 12), a scalar.

    Mean over classes and pairs of exp(-|P_i - P_j|^2), the squared norm summed over channels; pairs in which the
    class is absent are left out, and without any pair the score is NaN.
    """
    gap = (a.means.unsqueeze(1) - b.means.unsqueeze(0)).square().sum(3)
    both = a.present.unsqueeze(1) & b.present.unsqueeze(0)
    return (torch.exp(-gap) * both).sum() / both.sum()


def matching_per_class(a: Prototypes, b: Prototypes) -> Tensor:
    """`matching_score` of every class by itself, `[C]`."""

    def of(p: Prototypes, label: int) -> Prototypes:
        return Prototypes(p.means[:, [label]], p.present[:, [label]])

    return torch.stack([matching_score(of(a, label), of(b, label)) for label in range(a.means.shape[1])])


def _paired(a: Prototypes, b: Prototypes, pairing: Pairing, absent: Absent) -> tuple[Prototypes, Prototypes]:
    if pairing == "batch":
        return _merged(a, absent), _merged(b, absent)
    turn = torch.arange(len(b.means), device=b.means.device) % len(a.means)
    return Prototypes(a.means[turn], a.present[turn]), b


def _merged(each: Prototypes, absent: Absent) -> Prototypes:
    """The mean over images that hold the class, over all processes, as one image `[1, C, Z]`."""
    present = each.present.to(each.means.dtype).unsqueeze(2)
    table = batch_sum(torch.cat([each.means * present, present, torch.ones_like(present)], 2).sum(0, keepdim=True))
    totals, holding, images = table[..., :-2], table[..., -2:-1], table[..., -1:]
    enough = images if absent == "level" else torch.ones_like(images)
    return Prototypes(totals / holding.clamp(min=1), (holding >= enough).squeeze(2))


def _distance(pair: tuple[Prototypes, Prototypes], pairing: Pairing, absent: Absent) -> tuple[Tensor, Tensor]:
    """Mean over usable classes and pairs of the mean squared difference, and 1 where there is any, else 0."""
    a, b = pair
    counted = a.present & b.present
    if absent == "level":
        counted = counted.all(1, keepdim=True).expand_as(counted)
    weight = counted.to(a.means.dtype)
    sums = torch.stack([((a.means - b.means).square().mean(2) * weight).sum(), weight.sum()])
    total, count = batch_sum(sums) if pairing == "image" else sums
    return total / count.clamp(min=1), (count > 0).to(total.dtype)
