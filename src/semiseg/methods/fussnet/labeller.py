"""Pseudo-labels of an earlier student, with the voxels on which its branches agree."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from semiseg.ingredients.ema import ema_update, ema_update_buffers
from semiseg.ingredients.pseudo_labels import threshold_labels
from semiseg.networks.late_branches import LateBranchedNet


class Labeller(nn.Module):
    """The student as it was at the last refresh; it labels patches anew instead of keeping labels per scan."""

    def __init__(self, net: LateBranchedNet) -> None:
        super().__init__()
        self.net = deepcopy(net).requires_grad_(False)

    def train(self, mode: bool = True) -> Labeller:
        """Always evaluation."""
        return super().train(False)

    def copy(self, student: LateBranchedNet) -> None:
        """Become the student, running statistics included."""
        ema_update(self.net, student, 0.0)
        ema_update_buffers(self.net, student, 0.0)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Labels of `images`, and which of them are certain, both `[B, *S]`."""
        return agreement(self.net.branch(images)[0])


def agreement(logits: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Labels of the focal branch, and where it agrees with that of cross-entropy, and the other two with each other.

    Args:
        logits: `[B, C, *S]` of the branches of cross-entropy, Dice, focal loss and intersection over union.
    """
    ce, dice, focal, iou = (threshold_labels(z) for z in logits)
    return focal, (ce == focal) & (dice == iou)
