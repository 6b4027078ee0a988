"""Quantiles of scores in [0, 1] from counts in bins: bounded memory instead of all scores."""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 4096
"""Bins of [0, 1]; a quantile is off by less than one of them, 0.00025."""


def no_scores(classes: int, device: torch.device | None = None) -> Tensor:
    """An empty histogram `[classes, BINS]`, to which others are added."""
    return torch.zeros(classes, BINS, dtype=torch.long, device=device)


def channel_histogram(scores: Tensor) -> Tensor:
    """Counts `[C, BINS]` of the scores `[B, C, *S]` of each channel over all samples and voxels (int64)."""
    classes = scores.shape[1]
    rows = torch.arange(classes, device=scores.device).view(-1, *(1,) * (scores.ndim - 2)).expand(scores.shape[1:])
    total = no_scores(classes, scores.device)
    for sample in scores:  # one at a time bounds the memory of the indices
        total += label_histogram(sample, rows, classes)
    return total


def label_histogram(scores: Tensor, labels: Tensor, classes: int, counted: Tensor | None = None) -> Tensor:
    """Counts `[classes, BINS]` of `scores` by the class of their `labels`, of one shape; where `counted`, if given."""
    bins = (scores * BINS).long().clamp_(0, BINS - 1)
    ones = torch.ones_like(labels) if counted is None else counted.long()
    total = no_scores(classes, scores.device).flatten()
    return total.scatter_add_(0, (labels * BINS + bins).flatten(), ones.flatten()).view(classes, BINS)


def score_at(histogram: Tensor, rank: Tensor) -> Tensor:
    """The score at position `rank` `[C]` (from 0) of each row's scores in descending order; linear inside of a bin.

    Position 0 is the upper edge of the highest occupied bin. Ranks are limited to the last score; rows without any
    score give 1.
    """
    counts = histogram.flip(1)
    reached = counts.cumsum(1)
    total = reached[:, -1]
    rank = torch.minimum(rank, total - 1).clamp(min=0)
    column = (reached <= rank.unsqueeze(1)).sum(1).clamp(max=counts.shape[1] - 1)
    inside = counts.gather(1, column.unsqueeze(1)).squeeze(1)
    before = reached.gather(1, column.unsqueeze(1)).squeeze(1) - inside
    share = (rank - before).float() / inside.clamp(min=1)
    return torch.where(total > 0, 1 - (column + share) / counts.shape[1], 1.0)
