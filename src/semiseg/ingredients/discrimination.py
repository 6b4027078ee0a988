"""Discriminators that tell labelled images by what is predicted of them, and networks that deceive them.

A discriminator takes maps `[B, C, *S]` and images `[B, channels, *S]`, and gives logits `[B, 2]`: class 1 is labelled.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semiseg.ingredients.losses import cross_entropy
from semiseg.ingredients.modes import evaluating


def deception_loss(discriminator: nn.Module, maps: Tensor, images: Tensor) -> Tensor:
    """Cross-entropy of the verdict on unlabelled images with the class of labelled ones, without dropout."""
    with evaluating(discriminator):
        verdict = discriminator(maps, images)
    return cross_entropy(verdict, torch.ones(len(images), dtype=torch.long, device=images.device))


def discrimination_loss(discriminator: nn.Module, maps: Tensor, images: Tensor, labelled: int) -> Tensor:
    """Cross-entropy of the verdicts on a batch of which the first `labelled` are labelled."""
    truth = (torch.arange(len(images), device=images.device) < labelled).long()
    return cross_entropy(discriminator(maps, images), truth)
