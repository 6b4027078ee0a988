"""Which pseudo-labelled voxels are trusted.

Probabilities are `[B, C, *S]`; every rule gives a bool mask `[B, *S]`, True where the voxel is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from semiseg.ingredients.class_sums import class_sums
from semiseg.ingredients.consistency import add_noise
from semiseg.ingredients.horizon import HorizonOptions
from semiseg.ingredients.pseudo_labels import hard_labels

Predict = Callable[[Tensor], list[Tensor]]
"""Probabilities per level, coarse to fine, of images."""


class SelectionOptions(HorizonOptions):
    """How trusted voxels are chosen; a method's options may include these."""

    selection: Literal["self_aware", "all", "probability", "entropy", "mc_dropout"] = Field(
        "self_aware",
        description="which pseudo-labels count: `self_aware`, above thresholds that follow the student; `all`; "
        "`probability`, above a fixed one; `entropy`, below a rising limit; `mc_dropout`, the same of the mean of "
        "several noisy passes with dropout",
    )
    probability: float = Field(0.95, ge=0, le=1, description="threshold of the selection by probability")
    ambiguous: bool = Field(False, description="selection by entropy keeps the other voxels, as AC-MT does")
    mc_passes: int = Field(8, ge=2, multiple_of=2, description="passes of the selection by MC dropout")
    mc_noise: float = Field(0.1, ge=0, description="deviation of their input noise, cut at two deviations")
    threshold_momentum: float = Field(0.99, ge=0, le=1, description="share of the old self-aware threshold")
    threshold_clamp: bool = Field(True, description="keep self-aware thresholds between floor and cap")
    threshold_floor: float | None = Field(
        None, ge=0, le=1, description="floor; null: 1/classes, where they start (official code, two classes: 0.5)"
    )
    threshold_cap: float = Field(0.95, ge=0, le=1, description="cap of the self-aware thresholds")
    threshold_per_level: bool = Field(True, description="thresholds per class and level; false: per class, as printed")


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


class Selector(nn.Module):
    """Chooses the voxels whose pseudo-labels count, at every level."""

    def __init__(self, options: SelectionOptions, classes: int, levels: int, steps: int = 0) -> None:
        super().__init__()
        self.options = o = options
        floor = 1 / classes if o.threshold_floor is None else o.threshold_floor
        bounds = (floor, o.threshold_cap) if o.threshold_clamp else None
        columns = levels if o.threshold_per_level else 1
        self.thresholds = SelfAwareThresholds(classes, columns, o.within(o.threshold_momentum, steps), bounds)

    def keep(self, predict: Predict, images: Tensor, found: Sequence[Tensor], ramp: float) -> list[Tensor]:
        """Masks per level.

        Args:
            predict: the teacher, for further passes.
            images: `[B, channels, *S]`.
            found: its probabilities of them, per level.
            ramp: of the limit of the entropy, 0 to 1.
        """
        o = self.options
        match o.selection:
            case "self_aware":
                levels = range(len(found)) if o.threshold_per_level else [0] * len(found)
                return [self.thresholds.keep(level, p, hard_labels(p)) for level, p in zip(levels, found, strict=True)]
            case "all":
                return [torch.ones_like(p[:, 0], dtype=torch.bool) for p in found]
            case "probability":
                return [probable(p, o.probability) for p in found]
            case "entropy":
                limit = relative_entropy_limit(ramp, rise=0.2 if o.ambiguous else 0.25)
                return [low_entropy(p, limit, ambiguous=o.ambiguous) for p in found]
            case "mc_dropout":
                mean = monte_carlo_mean(predict, images, o.mc_passes, o.mc_noise)
                return [low_entropy(p, relative_entropy_limit(ramp)) for p in mean]

    def follow(self, logits: Sequence[Tensor], labels: Sequence[Tensor]) -> None:
        """Update self-aware thresholds by the student's logits at the teacher's labels, per level."""
        if self.options.selection == "self_aware":
            pairs = list(zip(logits, labels, strict=True))
            for level, (z, y) in enumerate(pairs if self.options.threshold_per_level else pairs[-1:]):
                self.thresholds.update(level, z, y)

    def observations(self) -> dict[str, Tensor]:
        """Self-aware thresholds of the classes, per level from coarse to fine."""
        if self.options.selection != "self_aware":
            return {}
        return {f"threshold_{level}": row for level, row in enumerate(self.thresholds.value.unbind(1), 1)}
