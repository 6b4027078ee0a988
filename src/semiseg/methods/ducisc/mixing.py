"""A labelled and an unlabelled image as one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.mixing import in_turn
from semiseg.ingredients.mixtures import mixup

SHARES = (0.25, 0.75)
"""Least and largest share of the labelled image."""


class Mixed(NamedTuple):
    """Mixed images `[B, channels, *S]`, their class probabilities `[B, C, *S]`, and the first labels' share."""

    images: Tensor
    target: Tensor
    of_label: Tensor


class Mixup:
    """Weighted means, with a share per pair between a quarter and three quarters (arXiv:1710.09412).

    Shares are `[B, 1, *S]`, or `[B, 1, 1 ...]` for the whole image.
    """

    def __call__(self, labelled: Tensor, labels: Tensor, images: Tensor, pseudo: Tensor) -> Mixed:
        """Mixtures of each of `images` with one of the labelled patches, which are taken in turn.

        Args:
            labelled: patches `[n, channels, *S]`, with `labels` `[n, *S]`.
            images: `[B, channels, *S]`, of no label.
            pseudo: class probabilities of these, `[B, C, *S]`.
        """
        first, labels = in_turn(labelled, len(images)), in_turn(labels, len(images))
        share = self.draw(labels)
        of_label = self.target_share(share)
        target = mixup(one_hot(labels, pseudo.shape[1]), pseudo, of_label)
        return Mixed(self.images(first, images, share), target, of_label)

    def draw(self, labels: Tensor) -> Tensor:
        """Shares of the first images, whose labels are `[B, *S]`."""
        low, high = SHARES
        share = low + (high - low) * draws(labels)[:, 0]
        return share.view(-1, *(1,) * labels.ndim)

    def images(self, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
        """The mixed images `[B, channels, *S]`."""
        return mixup(first, second, share)

    def target_share(self, share: Tensor) -> Tensor:
        """Share of the first image's labels."""
        return share


def draws(labels: Tensor) -> Tensor:
    """Uniform numbers `[B, 1 + dims]`, for the share of each pair and for the place of a box per axis."""
    return torch.rand(len(labels), labels.ndim, device=labels.device)
