"""Self-training in generations: the networks of the last one label what the next one learns from."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from semiseg.ingredients.pseudo_labels import confident_labels
from semiseg.ingredients.reduce import batch_sum
from semiseg.ingredients.score_histogram import label_histogram, no_scores, score_at
from semiseg.networks.base import Network
from semiseg.networks.modules import ModuleListOf


class PseudoLabeller(nn.Module):
    """Copies of the networks of the last generation, which label patches; of each class its surest voxels are kept.

    Labels of patches are asked for anew instead of stored per scan, so that crops and augmentation need no
    bookkeeping. How sure is sure enough follows from all unlabelled scans at once.

    Args:
        nets: the networks, whose mean logits label.
        rates: share of the voxels that are kept of those labelled as each class, `[C]`.
    """

    rates: Tensor
    threshold: Tensor

    def __init__(self, nets: Iterable[Network], rates: Tensor) -> None:
        super().__init__()
        self.nets = ModuleListOf(deepcopy(net).requires_grad_(False) for net in nets)
        self.register_buffer("rates", rates)
        self.register_buffer("threshold", torch.ones_like(rates))  # nothing is above it

    def train(self, mode: bool = True) -> PseudoLabeller:
        """Always evaluation."""
        return super().train(False)

    @torch.no_grad()
    def follow(self, nets: Iterable[Network], pool: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Become `nets`, and find the thresholds that keep the rates on the whole pool.

        Args:
            pool: images `[B, channels, *S]` and which of their voxels count, `[B, *S]`.
        """
        for own, net in zip(self.nets, nets, strict=True):
            own.load_state_dict(net.state_dict())
        classes = len(self.rates)
        histogram = no_scores(classes, self.rates.device)
        for images, counted in pool:
            histogram += label_histogram(*self._ask(images), classes, counted)
        histogram = batch_sum(histogram)
        found = histogram.sum(1)
        rank = (self.rates * found).long()
        partly = torch.where(found > 0, score_at(histogram, rank), 1.0)
        self.threshold.copy_(torch.where((rank >= found) & (found > 0), 0.0, partly))

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Labels `[B, *S]` of `images`, and which of them are kept."""
        confidence, labels = self._ask(images)
        return labels, confidence > self.threshold.index_select(0, labels.flatten()).view_as(labels)

    def _ask(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = [net(images) for net in self.nets]
        return confident_labels(torch.stack(logits).float().mean(0))
