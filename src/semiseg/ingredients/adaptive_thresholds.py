"""Thresholds with which every class keeps the share of its pseudo-labels that the majority class keeps (Adsh)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semiseg.ingredients.class_sums import class_counts
from semiseg.ingredients.pseudo_labels import confident_labels
from semiseg.ingredients.reduce import batch_cat, batch_sum, processes
from semiseg.ingredients.score_histogram import BINS, channel_histogram, label_histogram, no_scores, score_at

EPS = 1e-8


class AdaptiveThresholds(nn.Module):
    """Thresholds per class from the scores of the last patches, recomputed whenever their bank is full.

    With g the class predicted most often, and rho the share of its voxels whose score of g is above `majority`, the
    threshold of class c is the score of c at position int(rho N_c) of all voxels' scores of c in descending order, N_c
    the voxels predicted as c. The bank is full at `capacity` patches or one less; the next step computes with it and
    stores nothing. A slot that is never written counts as a patch of class 0 with all scores 0, as in xmed-lab/DHC.
    Thresholds are 0 until the first computation. Processes share one bank.

    Args:
        classes: number of classes C.
        capacity: patches that the bank holds, over all processes.
        majority: threshold of the majority class.
        exact: keep all scores (4 C bytes per voxel of the bank) instead of histograms (32 kB per class).
    """

    value: Tensor
    predicted: Tensor
    sure: Tensor
    histogram: Tensor
    scores: Tensor

    def __init__(self, classes: int, capacity: int, majority: float = 0.9, *, exact: bool = False) -> None:
        super().__init__()
        self.capacity, self.majority, self.exact = capacity, majority, exact
        self.register_buffer("value", torch.zeros(classes))
        self.register_buffer("predicted", torch.zeros(classes, dtype=torch.long))
        self.register_buffer("sure", torch.zeros(classes, dtype=torch.long))
        if exact:
            self.register_buffer("scores", torch.zeros(classes, 0))
        else:
            self.register_buffer("histogram", torch.zeros(classes, BINS, dtype=torch.long))

    def storing_steps(self, patches: int) -> int:
        """Steps with `patches` each that fill the bank."""
        return max(math.ceil((self.capacity - 1) / patches), 1)

    def buffered(self, step: int, patches: int) -> int:
        """Patches in the bank after `step`; 0 when it has just been computed with."""
        storing = self.storing_steps(patches)
        return (step % (storing + 1) + 1) % (storing + 1) * patches

    @torch.no_grad()
    def update(self, probabilities: Tensor, step: int) -> Tensor:
        """Thresholds `[C]` of `step`, whose unlabelled patches have these `probabilities` `[n, C, *S]`."""
        patches = len(probabilities) * processes()
        if patches:
            buffered = self.buffered(step, patches)
            if buffered:
                self._store(probabilities, first=buffered == patches)
            else:
                empty = max(self.capacity - self.storing_steps(patches) * patches, 0)
                self._compute(empty * probabilities[0, 0].numel())
        return self.value.clone()

    @torch.no_grad()
    def take(self, histogram: Tensor) -> None:
        """New thresholds from the scores of all voxels, counted by the class predicted there, `[C, BINS]`.

        As printed in the paper: the share of the majority class above `majority` is kept of every class, of its own
        voxels. Classes that are predicted nowhere get threshold 1.
        """
        predicted = histogram.sum(1)
        major = predicted.argmax(0, keepdim=True)
        sure = histogram.index_select(0, major)[:, int(self.majority * BINS) :].sum()
        rank = (sure / predicted.index_select(0, major).clamp(min=1) * predicted).long()
        self.value.copy_(score_at(histogram, rank))

    def _store(self, p: Tensor, *, first: bool) -> None:
        classes = p.shape[1]
        space = (0, *range(2, p.ndim))
        found = [class_counts(p.max(1).indices, classes), (p > self.majority).sum(space)]
        scores = batch_cat(p).movedim(1, 0).flatten(1) if self.exact else batch_sum(channel_histogram(p))
        predicted, sure = batch_sum(torch.stack(found))
        self.predicted = predicted + (0 if first else self.predicted)
        self.sure = sure + (0 if first else self.sure)
        if self.exact:
            self.scores = scores if first else torch.cat([self.scores, scores], 1)
        else:
            self.histogram = scores + (0 if first else self.histogram)

    def _compute(self, empty: int) -> None:
        """New thresholds from the bank and `empty` voxels of class 0 with scores 0."""
        predicted = self.predicted.clone()
        predicted[0] += empty
        major = predicted.argmax(0, keepdim=True)  # indexing by a number would wait for the device
        rho = (self.sure.index_select(0, major).float() + EPS) / (predicted.index_select(0, major).float() + EPS)
        rank = (rho * predicted.float()).long()
        if self.exact:
            ordered = F.pad(self.scores, (0, empty)).sort(1, descending=True).values
            new = ordered.gather(1, rank.clamp(max=ordered.shape[1] - 1).unsqueeze(1)).squeeze(1)
        else:
            histogram = self.histogram.clone()
            histogram[:, 0] += empty
            new = score_at(histogram, rank)
        self.value = torch.where(self.predicted.sum() > 0, new, self.value)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Makes room for scores, whose number depends on the moment."""
        saved = state_dict.get(f"{prefix}scores")
        if saved is not None and self.exact:
            self.scores = torch.empty_like(saved, device=self.value.device)
        super()._load_from_state_dict(state_dict, prefix, *args)


def above(probabilities: Tensor, limit: Tensor) -> Tensor:
    """Where each channel of `probabilities` `[B, C, *S]` is above its `limit` `[C]`."""
    return probabilities > limit.view(-1, *(1,) * (probabilities.ndim - 2))


@torch.no_grad()
def take_pool(
    thresholds: Iterable[AdaptiveThresholds],
    nets: Iterable[Callable[[Tensor], Tensor]],
    pool: Iterable[tuple[Tensor, Tensor]],
) -> None:
    """New thresholds for each of `nets` from images `[B, channels, *S]` and which of their voxels count, `[B, *S]`."""
    pairs = [(own, net, no_scores(len(own.value), own.value.device)) for own, net in zip(thresholds, nets, strict=True)]
    for images, counted in pool:
        for _, net, histogram in pairs:
            confidence, labels = confident_labels(net(images))
            histogram += label_histogram(confidence, labels, len(histogram), counted)
    for own, _, histogram in pairs:
        own.take(batch_sum(histogram))
