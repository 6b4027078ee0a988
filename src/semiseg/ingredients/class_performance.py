"""How well classes are known, by three indicators fused by fuzzy ranks (Basak et al., MICCAI 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semiseg.ingredients.class_sampling import EPS
from semiseg.ingredients.class_sums import class_counts, probabilities
from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.reduce import batch_cat, batch_sum

PENALTY = 0.632
"""Rank of a class that is not among the best; its confidence is 0."""


def class_indicators(logits: Tensor, labels: Tensor, *, pairs: bool = True) -> Tensor:
    """Means of p_k sum_j ln p_j, of p_k, and of max p - p_k over the voxels of each class k, `[3, C]`.

    Args:
        logits: `[n, C, *S]`, p their softmax.
        labels: `[n, *S]`; a class without voxels has 0 in all three.
        pairs: meet the scores of every sample with the labels of every sample, divided by the voxels of the class, as
            xmed-lab/DHC does; else with its own.
    """
    p, classes = probabilities(logits), logits.shape[1]
    everyone = batch_cat(labels)
    of_all = one_hot(everyone, classes).sum(0) if pairs else None
    total = p.new_zeros(3, classes)
    for q, y in zip(p, labels, strict=True):
        mask = one_hot(y.unsqueeze(0), classes)[0] if of_all is None else of_all
        rows = torch.stack([q * torch.log(q + EPS).sum(0), q, q.max(0).values - q])
        total += (rows * mask).flatten(2).sum(2)
    return batch_sum(total) / (class_counts(everyone, classes) + EPS)


def fuzzy_ranks(shares: Tensor, kept: int = 12) -> tuple[Tensor, Tensor]:
    """Ranks `[3, C]` and what 1 minus the mean share of each class is `[C]`, of indicators as `shares` `[3, C]`.

    A rank is 1 - exp(-exp(-2 F)), small for large shares F. Beyond the `kept` smallest of a row (ties are all kept) it
    is 0.632, and the share counts as 0.
    """
    ranks = 1 - torch.exp(-torch.exp(-2 * shares))
    last = ranks.sort(1).values[:, min(kept, shares.shape[1]) - 1 :][:, :1]
    among = ranks <= last
    return torch.where(among, ranks, PENALTY), 1 - torch.where(among, shares, 0.0).sum(0) / len(shares)


class ClassPerformance(nn.Module):
    """A score per class, renewed after every window of steps: s <- momentum s + (1 - momentum) (R G) / max(R G).

    R is the sum of the fuzzy ranks of the three indicators, G the complement of their mean share; shares are the
    softmax over the classes of an indicator's mean over the steps. It starts at 0. All that is kept is `sums` `[3, C]`.

    Args:
        classes: number of classes.
        kept: classes per indicator that keep their rank; all where there are fewer.
        pairs: see `class_indicators`.
    """

    value: Tensor
    sums: Tensor

    def __init__(self, classes: int, kept: int = 12, *, pairs: bool = True) -> None:
        super().__init__()
        self.kept, self.pairs = kept, pairs
        self.register_buffer("value", torch.zeros(classes))
        self.register_buffer("sums", torch.zeros(3, classes))

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor, step: int, window: int, momentum: float = 0.99) -> Tensor:
        """The score `[C]` after `step`; it changes at the last step of each `window` steps."""
        if step % window == 0:
            self.sums.zero_()
        if len(labels):
            self.sums += class_indicators(logits, labels, pairs=self.pairs)
        if (step + 1) % window == 0:
            ranks, rest = fuzzy_ranks(torch.softmax(self.sums / window, 1), self.kept)
            fused = ranks.sum(0) * rest
            self.value.copy_(torch.lerp(fused / fused.max(), self.value, momentum))
        return self.value.clone()
