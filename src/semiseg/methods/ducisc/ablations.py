"""Competitors of DuCiSC's Tables VII to X, each in the place of the part that it replaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from semiseg.errors import InputError
from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.confidence import low_entropy, monte_carlo_mean, probable, relative_entropy_limit
from semiseg.ingredients.ema import StudentTeacherOptions, Teacher, make_teacher
from semiseg.ingredients.levels import Reduction, View
from semiseg.ingredients.mixtures import box_mask, corner_box, mixup
from semiseg.ingredients.prototypes import PrototypeOptions
from semiseg.ingredients.reduce import batch_sum
from semiseg.methods.ducisc.alignment import PrototypeAlignment, Teach
from semiseg.methods.ducisc.mixing import Mixup, draws
from semiseg.methods.ducisc.snapshots import Snapshots
from semiseg.methods.ducisc.thresholds import SelfAwareSelection, ThresholdOptions
from semiseg.networks.base import Network

MC_PASSES = 8
"""Passes of the selection by MC dropout, as in UA-MT."""
BOX_SIDE = 2 / 3
"""Side of the box of CutMix and CutOut as a share, for which the paper gives no number."""


class AblationOptions(ThresholdOptions, PrototypeOptions, StudentTeacherOptions):
    """Rows of the ablations, with the options of the parts that they replace."""

    selection: Literal["self_aware", "all", "probability", "entropy", "mc_dropout"] = Field(
        "self_aware",
        description="which pseudo-labels count: `self_aware`, above thresholds that follow the student; `all`; "
        "`probability`, above a fixed one; `entropy`, below a rising limit; `mc_dropout`, the same of the mean of "
        "several noisy passes with dropout",
    )
    probability: float = Field(0.95, ge=0, le=1, description="threshold of the selection by probability")
    alignment: Literal["prototype", "feature"] = Field(
        "prototype", description="`feature`: voxel by voxel with the teacher's, without classes, in both terms"
    )
    ensemble: Literal["mean_teacher", "temporal"] = Field(
        "mean_teacher", description="who gives the pseudo-labels: an average of weights, or of past predictions"
    )
    snapshot_every: float = Field(
        0.02, gt=0, le=1, description="share of the run between the past students of temporal ensembling"
    )
    mixing: Literal["mixup", "cutmix", "cutout", "copy_paste"] = Field(
        "mixup",
        description="how a labelled and an unlabelled image are mixed: `mixup`, a weighted mean; `cutmix`, a box of "
        "the labelled one; `copy_paste`, its foreground; `cutout`, a box of the unlabelled one set to 0, whose labels "
        "stay",
    )


class EveryVoxel(nn.Module):
    """Selection of all voxels (Table VII, baseline); other selections without thresholds are made of it."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def keep(self, teach: Teach, images: Tensor, found: Sequence[Tensor], ramp: float) -> list[Tensor]:
        """Masks per level; arguments as of `SelfAwareSelection.keep`."""
        return [torch.ones_like(p[:, 0], dtype=torch.bool) for p in found]

    def follow(self, logits: Sequence[Tensor], labels: Sequence[Tensor]) -> None:
        """Nothing follows the student."""

    def observations(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}


class ProbableVoxels(EveryVoxel):
    """Selection above a fixed probability."""

    def keep(self, teach: Teach, images: Tensor, found: Sequence[Tensor], ramp: float) -> list[Tensor]:
        return [probable(p, self.probability) for p in found]


class LowEntropyVoxels(EveryVoxel):
    """Selection below the rising limit of UA-MT; the paper gives none."""

    def keep(self, teach: Teach, images: Tensor, found: Sequence[Tensor], ramp: float) -> list[Tensor]:
        return [low_entropy(p, relative_entropy_limit(ramp)) for p in found]


class MonteCarloVoxels(LowEntropyVoxels):
    """The same of the mean of several noisy passes with dropout."""

    def keep(self, teach: Teach, images: Tensor, found: Sequence[Tensor], ramp: float) -> list[Tensor]:
        mean = monte_carlo_mean(lambda x: teach(x).probabilities(), images, MC_PASSES)
        return super().keep(teach, images, mean, ramp)


class FeatureAlignment(nn.Module):
    """Distance of the features of other images to the teacher's of the same images (Table VIII, Eq. 13)."""

    def __init__(self, options: PrototypeOptions) -> None:
        super().__init__()
        self.reduction: Reduction = options.reduction

    def forward(self, labelled: View, other: View, teach: Teach) -> Tensor:
        """A scalar; the labelled images play no part."""
        return feature_mse(other.features, teach(other.images).features, self.reduction)

    def observations(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}


class CutMix(Mixup):
    """A box of the labelled image (Table X)."""

    def draw(self, labels: Tensor) -> Tensor:
        uniform, shape = draws(labels), labels.shape[1:]
        return box_mask(*corner_box(shape, BOX_SIDE, uniform[:, 1:]), shape).to(uniform.dtype)


class CutOut(CutMix):
    """A box of the unlabelled image set to 0, whose labels stay."""

    def images(self, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
        return mixup(torch.zeros_like(first), second, share)

    def target_share(self, share: Tensor) -> Tensor:
        return torch.zeros_like(share)


class CopyPaste(Mixup):
    """The foreground of the labelled image."""

    def draw(self, labels: Tensor) -> Tensor:
        return (labels > 0).unsqueeze(1).to(draws(labels).dtype)


def feature_mse(a: Sequence[Tensor], b: Sequence[Tensor], reduction: Reduction = "mean") -> Tensor:
    """Sum over levels of the squared difference of features `[B, Z, *S]`, mean over voxels and samples.

    Over channels it is the mean, or the `sum` as printed (DuCiSC, arXiv:2507.21440, Eq. 13).
    """
    levels = [_mse(full_precision(x), full_precision(y)) for x, y in zip(a, b, strict=True)]
    if reduction == "sum":
        levels = [level * x.shape[1] for level, x in zip(levels, a, strict=True)]
    return torch.stack(levels).sum()


def make_selection(o: AblationOptions, classes: int, levels: int, steps: int) -> SelfAwareSelection | EveryVoxel:
    """The selection of Table VII over decoder `levels`, in a run of so many `steps` (0: unknown)."""
    fixed = {"all": EveryVoxel, "probability": ProbableVoxels, "entropy": LowEntropyVoxels}
    fixed["mc_dropout"] = MonteCarloVoxels
    known = o.selection in fixed
    return fixed[o.selection](o.probability) if known else SelfAwareSelection(o, classes, levels, steps)


def make_alignment(o: AblationOptions, levels: int, name: str) -> PrototypeAlignment | FeatureAlignment:
    """The alignment of Table VIII over decoder `levels`, with other images called `name`.

    Raises:
        InputError: features are asked of a teacher that has none of its own.
    """
    if o.alignment == "prototype":
        return PrototypeAlignment(o, levels, name)
    if o.ensemble != "mean_teacher":
        raise InputError("alignment: feature needs a teacher with features: set ensemble to mean_teacher")
    return FeatureAlignment(o)


def make_ensemble(o: AblationOptions, student: Network, start: Network, steps: int) -> Teacher | Snapshots:
    """The teacher of Table IX: a moving average of the student that begins at `start`, or its past selves."""
    return make_teacher(start, o, steps) if o.ensemble == "mean_teacher" else Snapshots(student, o.snapshot_every)


MIXERS = {"mixup": Mixup, "cutmix": CutMix, "cutout": CutOut, "copy_paste": CopyPaste}
"""The mixtures of Table X."""


def _mse(a: Tensor, b: Tensor) -> Tensor:
    """Over the batch of all processes, so that a quotient of it is the same on each of them."""
    total = (a - b).square().sum()
    summed, count = batch_sum(torch.stack([total, total.new_full((), a.numel())]))
    mean: Tensor = summed / count.clamp(min=1)
    return mean
