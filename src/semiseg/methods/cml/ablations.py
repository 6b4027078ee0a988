"""What CML's Figure 6 compares it with: images as they are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor

from semiseg.methods.cml.cutmix import Pair, PseudoLabels, View, view_of
from semiseg.networks.base import Network


class PlainImages:
    """In the place of `CutMix`: nothing is mixed, and each subnet learns the other's labels of the same pass.

    Args:
        filtered: foreground classes whose pseudo-labels are reduced to their largest component.
    """

    def __init__(self, filtered: Collection[int]) -> None:
        self.filtered = filtered

    def paste(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Images and labels as they are."""
        return values

    def teach(self, subnets: Sequence[Network], images: Tensor) -> tuple[View, Pair]:
        """The view of unlabelled images, and the targets of both subnets there."""
        view = view_of(subnets, images)
        a, b = PseudoLabels(view.logits, self.filtered).both()
        return view, (b, a)
