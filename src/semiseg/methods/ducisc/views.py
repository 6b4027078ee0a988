"""Images as networks see them at all decoder levels, with the labels that they have there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from semiseg.ingredients.levels import (
    CoarseLabels,
    Levels,
    LevelTaps,
    Tapped,
    View,
    coarse,
    one_hots,
    resize_linear,
    resize_nearest,
    run_levels,
)
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.methods.ducisc.mixing import Mixed

PseudoLabels = Literal["heads", "finest"]


@dataclass(frozen=True)
class LevelViews:
    """Passes of networks over all levels, coarse to fine, and views of them with labels.

    Attributes:
        taps: of heads and features.
        classes: number of classes.
        at: which voxel of a block gives its coarse label, see `LevelOptions.coarse_labels`.
    """

    taps: LevelTaps
    classes: int
    at: CoarseLabels

    def run(self, net: Tapped, images: Tensor) -> Levels:
        """One forward pass."""
        return run_levels(net, images, self.taps)

    def coarse(self, labels: Tensor, logits: Sequence[Tensor]) -> list[Tensor]:
        """Labels `[B, *S]` at the sizes of all levels."""
        return [coarse(labels, z.shape[2:], self.classes, self.at) for z in logits]

    def pseudo_labels(
        self, guide: Levels, sure: list[Tensor], source: PseudoLabels
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The teacher's hard labels per level, and the voxels where it is `sure`; or the `finest` ones at all sizes."""
        labels = [hard_labels(z) for z in guide.logits]
        if source == "heads":
            return labels, sure
        labels = self.coarse(labels[-1], guide.logits)
        return labels, [resize_nearest(sure[-1], y.shape[1:]) for y in labels]

    def labelled(self, images: Tensor, levels: Levels, labels: Sequence[Tensor]) -> View:
        """The view of images with hard labels per level."""
        return View(images, levels.logits, levels.features, one_hots(labels, self.classes))

    def mixed(self, net: Tapped, mixture: Mixed) -> View:
        """The view of mixed images, whose class probabilities are interpolated."""
        logits, features = self.run(net, mixture.images)
        return View(mixture.images, logits, features, [resize_linear(mixture.target, z.shape[2:]) for z in logits])


def sure_in_mixture(sure: Sequence[Tensor], mixture: Mixed) -> list[Tensor]:
    """Voxels of mixed images that count: `sure` ones, and those that show the labelled patch alone."""
    shown = mixture.of_label.squeeze(1)
    return [m | (resize_nearest(shown, m.shape[1:]) >= 1) for m in sure]
