"""Decoders seen at all their resolutions: logits and features per level, coarse to fine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Place = Literal["sum", "dec"]


class Levels(NamedTuple):
    """What a network gives for one batch: logits `[B, C, *S_l]` and features `[B, Z_l, *S_l]`, coarse to fine."""

    logits: list[Tensor]
    features: list[Tensor]


class LevelTaps(NamedTuple):
    """Names of the extra heads (the finest level has the main head) and of the features."""

    heads: tuple[str, ...]
    features: tuple[str, ...]


class Tapped(Protocol):
    """A network, or something that is called like one with at least one tap."""

    def __call__(self, images: Tensor, taps: tuple[str, ...], /) -> tuple[Tensor, dict[str, Tensor]]: ...


def level_taps(taps: Collection[str], place: Place) -> LevelTaps:
    """Taps of a network with deep supervision: its decoder stages (`dec`), or the sums that enter them (`sum`)."""
    head = {"sum": "sumhead", "dec": "head"}[place]
    heads, features = (
        tuple(name for name in taps if name.startswith(kind) and name.removeprefix(kind).isdigit())
        for kind in (head, place)
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


def resize_linear(maps: Tensor, sides: Sequence[int]) -> Tensor:
    """Maps `[B, C, *S]` at another size by (bi-, tri-)linear interpolation between voxel centres."""
    return F.interpolate(maps, size=tuple(sides), mode={2: "bilinear", 3: "trilinear"}[len(sides)])


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Class indices `[B, *S]` as probabilities `[B, C, *S]`."""
    empty = torch.zeros(labels.shape[0], classes, *labels.shape[1:], dtype=dtype, device=labels.device)
    return empty.scatter_(1, labels.unsqueeze(1), 1.0)
