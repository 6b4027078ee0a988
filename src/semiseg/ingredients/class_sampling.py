"""Voxels drawn at random, the more of them the worse their class is known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semiseg.ingredients.class_sums import class_sums

EPS = 1e-12


def sampling_rates(score: Tensor, exponent: float) -> Tensor:
    """((1 - s_c) / max_k (1 - s_k))^exponent of scores `[C]` in [0, 1]: the worst class has rate 1."""
    missing = 1 - score
    return (missing / (missing.max() + EPS)) ** exponent


def sampled(labels: Tensor, rates: Tensor) -> Tensor:
    """Mask `[B, *S]` that keeps a voxel with the rate `[C]` of its label, drawn from torch's default generator."""
    return draw(labels) > 1 - rates.index_select(0, labels.flatten()).view_as(labels)


def draw(labels: Tensor) -> Tensor:
    """A uniform number in [0, 1) per voxel."""
    return torch.rand(labels.shape, device=labels.device)


class ClassConfidence(nn.Module):
    """Mean probability of the right class per class, measured over windows of steps (CLD, MICCAI 2022).

    It starts at a uniform draw. The first window replaces it, later ones move it: c <- momentum c + (1 - momentum) new.
    A class without labelled voxels in a window counts as 0. Windows are aligned to the steps of the run, so that two
    rows of sums per class are all that is kept.

    Args:
        classes: number of classes.
        window: steps of a window.
        momentum: share of the old confidence.
    """

    value: Tensor
    sums: Tensor
    started: Tensor

    def __init__(self, classes: int, window: int, momentum: float) -> None:
        super().__init__()
        self.window, self.momentum = window, momentum
        self.register_buffer("value", torch.rand(classes))
        self.register_buffer("sums", torch.zeros(2, classes))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor, step: int) -> Tensor:
        """The confidence `[C]` after `step` with `logits` `[n, C, *S]` and `labels` `[n, *S]`."""
        if step % self.window == 0:
            self.sums.zero_()
        if len(labels):
            found = class_sums(logits, labels)
            self.sums += torch.stack([found.overlap, found.voxels])
        if (step + 1) % self.window == 0:
            new = self.sums[0] / (self.sums[1] + EPS)
            self.value.copy_(torch.where(self.started, torch.lerp(new, self.value, self.momentum), new))
            self.started.fill_(True)
        return self.value.clone()
