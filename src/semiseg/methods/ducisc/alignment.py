"""Class prototypes of labelled images and of others, drawn together."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from semiseg.ingredients.levels import Levels, View
from semiseg.ingredients.prototypes import PrototypeOptions, UsableLevels, aligned_levels, level_prototypes

Teach = Callable[[Tensor], Levels]
"""The teacher's levels of images, for whoever asks."""


class PrototypeAlignment(nn.Module):
    """Distance of the class prototypes of other images to those of labelled ones (DuCiSC, Eq. 4 and 7).

    Args:
        options: which prototypes are compared.
        levels: number of decoder levels.
        name: of the other images, for what is logged.
    """

    def __init__(self, options: PrototypeOptions, levels: int, name: str) -> None:
        super().__init__()
        self.options, self.name = options, name
        self.usable = UsableLevels(levels)

    def forward(self, labelled: View, other: View, teach: Teach) -> Tensor:
        """A scalar; the teacher is not asked."""
        o = self.options
        a, b = level_prototypes(labelled), level_prototypes(other)
        loss, usable = aligned_levels(a, b, o.pairing, o.absent, o.reduction)
        self.usable.count(usable)
        return loss

    def observations(self) -> dict[str, Tensor]:
        """Share of batches in which each level was usable."""
        return {f"usable_{self.name}": self.usable.share}
