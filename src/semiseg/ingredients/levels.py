"""Decoders seen at all their resolutions: logits and features per level, coarse to fine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Tensor

from semiseg.ingredients.class_sums import probabilities

Reduction = Literal["mean", "sum"]
CoarseLabels = Literal["centre", "first"]


class LevelOptions(BaseModel):
    """How levels add up, and what labels they have; a method's options may include these."""

    reduction: Reduction = Field(
        "mean",
        description="`sum`: prototypes over levels and channels, and cross-entropy + Dice instead of half of it, as "
        "printed",
    )
    coarse_labels: CoarseLabels = Field(
        "centre",
        description="class of a voxel of a coarse level: the most frequent about the `centre` of its block, where "
        "mixed labels are taken as well, or that of its `first` voxel, as the official code",
    )


class Levels(NamedTuple):
    """What a network gives for one batch: logits `[B, C, *S_l]` and features `[B, Z_l, *S_l]`, coarse to fine."""

    logits: list[Tensor]
    features: list[Tensor]

    def probabilities(self) -> list[Tensor]:
        """Class probabilities per level."""
        return [probabilities(z) for z in self.logits]


class View(NamedTuple):
    """Images as a network sees them, with the class probabilities `masks` `[B, C, *S_l]` that belong to them."""

    images: Tensor
    logits: list[Tensor]
    features: list[Tensor]
    masks: list[Tensor]


class LevelTaps(NamedTuple):
    """Names of the extra heads (the finest level has the main head) and of the features."""

    heads: tuple[str, ...]
    features: tuple[str, ...]


class Tapped(Protocol):
    """A network, or something that is called like one with at least one tap."""

    def __call__(self, images: Tensor, taps: tuple[str, ...], /) -> tuple[Tensor, dict[str, Tensor]]: ...


def level_taps(taps: Collection[str]) -> LevelTaps:
    """Taps of a network, its heads among them if it has deep supervision.

    Decoder stages (`dec`), or the sums that enter them (`sum`) where a network adds its skips, as the V-Net.

    Args:
        taps: names of all its taps.
    """
    kinds = ("sumhead", "sum") if "sum1" in taps else ("head", "dec")
    heads, features = (
        tuple(name for name in taps if name.startswith(kind) and name.removeprefix(kind).isdigit()) for kind in kinds
    )
    return LevelTaps(heads, features)


def run_levels(net: Tapped, images: Tensor, taps: LevelTaps) -> Levels:
    """One forward pass at all levels."""
    logits, found = net(images, taps.heads + taps.features)
    return Levels([*(found[name] for name in taps.heads), logits], [found[name] for name in taps.features])


def resize_nearest(maps: Tensor, sides: Sequence[int]) -> Tensor:
    """Maps `[..., *S]` at a coarser size that divides theirs, by the first voxel of each block.

    It is what `interpolate` with mode `nearest` gives; an axis of length one stays.
    """
    full = maps.shape[maps.ndim - len(sides) :]
    every: list[Any] = [slice(None, None, max(long // side, 1)) for long, side in zip(full, sides, strict=True)]
    return maps[(..., *every)]


def coarse(labels: Tensor, sides: Sequence[int], classes: int, at: CoarseLabels) -> Tensor:
    """Class indices `[B, *S]` at a coarser size, `[B, *sides]`; see `LevelOptions.coarse_labels`."""
    if at == "first" or labels.shape[1:] == tuple(sides):
        return resize_nearest(labels, sides)
    # On the CPU argmax over an inner axis takes ten times as long as max, which finds the same.
    return resize_linear(one_hot(labels, classes), sides).max(1).indices


def resize_linear(maps: Tensor, sides: Sequence[int]) -> Tensor:
    """Maps `[B, C, *S]` at another size by (bi-, tri-)linear interpolation between voxel centres."""
    return F.interpolate(maps, size=tuple(sides), mode={2: "bilinear", 3: "trilinear"}[len(sides)])


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Class indices `[B, *S]` as probabilities `[B, C, *S]`."""
    empty = torch.zeros(labels.shape[0], classes, *labels.shape[1:], dtype=dtype, device=labels.device)
    return empty.scatter_(1, labels.unsqueeze(1), 1.0)


def one_hots(labels: Sequence[Tensor], classes: int) -> list[Tensor]:
    """`one_hot` of the labels of every level."""
    return [one_hot(y, classes) for y in labels]
