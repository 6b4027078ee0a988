"""Which pseudo-labelled voxels are trusted.

Probabilities are `[B, C, *S]`; every rule gives a bool mask `[B, *S]`, True where the voxel is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from semiseg.ingredients.consistency import add_noise

Predict = Callable[[Tensor], list[Tensor]]
"""Probabilities per level, coarse to fine, of images."""


def probable(probabilities: Tensor, threshold: float) -> Tensor:
    """Voxels whose most probable class has at least `threshold` (FixMatch, arXiv:2001.07685)."""
    return probabilities.max(1).values >= threshold


def entropy(probabilities: Tensor, epsilon: float = 1e-6) -> Tensor:
    """-sum p log(p + `epsilon`) over the classes in natural units, `[B, *S]`, as yulequan/UA-MT writes it."""
    return -(probabilities * torch.log(probabilities + epsilon)).sum(1)


def relative_entropy_limit(ramp: float, start: float = 0.75, rise: float = 0.25) -> float:
    """Limit in shares of log C that rises with `ramp` from `start` (UA-MT: to 1; AC-MT: `rise` 0.2)."""
    return start + rise * ramp


def low_entropy(probabilities: Tensor, limit: float, *, ambiguous: bool = False) -> Tensor:
    """Voxels whose entropy is below `limit` log C; `ambiguous`: those at or above it, as lemoshu/AC-MT chooses."""
    found = entropy(probabilities)
    bound = limit * math.log(probabilities.shape[1])
    return found >= bound if ambiguous else found < bound


def monte_carlo_mean(predict: Predict, images: Tensor, passes: int, deviation: float = 0.1) -> list[Tensor]:
    """Mean probabilities per level over `passes` noisy passes of a network with dropout (UA-MT, arXiv:1907.07034).

    Args:
        predict: probabilities per level of images.
        images: `[B, channels, *S]`; as in the official code two passes share one call.
        passes: number of predictions, even.
        deviation: of the input noise, cut at two deviations.
    """
    totals: list[Tensor] = []
    for _ in range(passes // 2):
        twice = torch.cat([images, images])
        found = [
            p[: len(images)] + p[len(images) :] for p in predict(add_noise(twice, torch.randn_like(twice), deviation))
        ]
        totals = [total + p for total, p in zip(totals, found, strict=True)] if totals else found
    return [total / (passes // 2 * 2) for total in totals]
