"""How features of images are drawn together: by class, as prototypes, or voxel by voxel with a teacher's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from semiseg.ingredients.features import feature_mse
from semiseg.ingredients.levels import View
from semiseg.ingredients.prototypes import PrototypeOptions, UsableLevels, aligned_levels, level_prototypes

Teach = Callable[[], Sequence[Tensor]]
"""The teacher's features of the other images, per level, for whoever asks."""


class AlignmentOptions(PrototypeOptions):
    """How features are aligned; a method's options may include these."""

    alignment: Literal["prototype", "feature"] = Field(
        "prototype", description="`feature`: voxel by voxel with the teacher's, without classes, in both terms"
    )


class PrototypeAlignment(nn.Module):
    """Distance of the class prototypes of other images to those of labelled ones (DuCiSC, Eq. 4 and 7)."""

    def __init__(self, options: AlignmentOptions, levels: int) -> None:
        super().__init__()
        self.options = options
        self.usable = UsableLevels(min(levels, options.proto_levels or levels))

    def forward(self, labelled: View, other: View, teach: Teach) -> Tensor:
        """A scalar; the teacher is not asked."""
        o = self.options
        a, b = (level_prototypes(view, o.proto_levels) for view in (labelled, other))
        loss, usable = aligned_levels(a, b, o.pairing, o.absent, o.reduction)
        self.usable.count(usable)
        return loss

    def observations(self) -> dict[str, Tensor]:
        """Share of batches in which each level was usable."""
        return {"usable": self.usable.share}


class FeatureAlignment(nn.Module):
    """Distance of the features of other images to the teacher's of the same images (DuCiSC, Eq. 13)."""

    def __init__(self, options: AlignmentOptions) -> None:
        super().__init__()
        self.options = options

    def forward(self, labelled: View, other: View, teach: Teach) -> Tensor:
        """A scalar; the labelled images play no part."""
        return feature_mse(other.features, teach(), self.options.reduction)

    def observations(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}


def make_alignment(options: AlignmentOptions, levels: int) -> PrototypeAlignment | FeatureAlignment:
    """The alignment of these options over decoder `levels`."""
    return FeatureAlignment(options) if options.alignment == "feature" else PrototypeAlignment(options, levels)
