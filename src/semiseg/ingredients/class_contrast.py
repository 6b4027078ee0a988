"""Features drawn to a memory of good features of their class (SS-Net, arXiv:2203.01324)."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semiseg.ingredients.class_memory import ClassMemory
from semiseg.ingredients.class_sums import class_counts, full_precision
from semiseg.ingredients.discrepancy import direction

Selected = Literal["lowest", "highest"]
Rows = list[tuple[int, Tensor]]
"""Classes, and the positions of their labels."""


def rows_of(features: Tensor) -> Tensor:
    """Feature vectors of all voxels, `[B * voxels, C]` from `[B, C, *S]`, in the order of flattened labels."""
    return features.movedim(1, -1).reshape(-1, features.shape[1])


def mlp(inputs: int, width: int) -> nn.Sequential:
    """Perceptron on vectors `[M, inputs]`: linear, batch normalisation, ReLU, linear; all layers are `width` wide."""
    return nn.Sequential(
        nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(inplace=True), nn.Linear(width, width)
    )


class Selectors(nn.Module):
    """One perceptron per foreground class that scores feature vectors from 0 to 1.

    Linear, batch normalisation by the statistics of the given vectors, leaky ReLU with slope 0.2, linear, sigmoid. The
    weights of all classes are stacked, so that each has a gradient as soon as one class has.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        bound, others = 1 / math.sqrt(width), classes - 1  # as PyTorch draws linear layers

        def draw(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(others, *shape).uniform_(-bound, bound))

        self.weight, self.bias = draw(width, width), draw(width)
        self.norm_weight = nn.Parameter(torch.ones(others, width))
        self.norm_bias = nn.Parameter(torch.zeros(others, width))
        self.last_weight, self.last_bias = draw(1, width), draw(1)

    def forward(self, label: int, vectors: Tensor) -> Tensor:
        """Scores `[M]` of `vectors` `[M, width]`, at least two, by the selector of class `label` (from 1)."""
        k = label - 1
        hidden = F.linear(vectors, self.weight[k], self.bias[k])
        hidden = F.batch_norm(hidden, None, None, self.norm_weight[k], self.norm_bias[k], training=True)
        scores = F.linear(F.leaky_relu(hidden, 0.2), self.last_weight[k], self.last_bias[k])
        return torch.sigmoid(full_precision(scores)).squeeze(1)


@torch.no_grad()
def remember(memory: ClassMemory, selectors: Selectors, vectors: Tensor, labels: Tensor, selected: Selected) -> None:
    """Replace what is kept of the foreground classes of `labels` `[M]` by their `vectors` `[M, width]`.

    Of more than fit, those with the lowest or highest scores are kept, the extreme first. Other classes keep theirs.
    """
    for label, rows in _by_class(labels, len(memory.kept)):
        if label and len(rows):
            found = vectors.index_select(0, rows)
            if len(found) > memory.size:
                scores = selectors(label, found)
                found = found.index_select(0, scores.topk(memory.size, largest=selected == "highest").indices)
            memory.replace(label, found)


def usable_rows(memory: ClassMemory, labels: Tensor) -> Rows:
    """Foreground classes with two of `labels` `[M]` and two vectors in memory, and where these labels are.

    The host waits for the device once, for both counts.
    """
    counts, kept = torch.stack([class_counts(labels, len(memory.kept)), memory.kept]).tolist()
    rows = torch.split(labels.argsort(stable=True), counts)
    return [(label, rows[label]) for label in range(1, len(kept)) if min(counts[label], kept[label]) >= 2]


def contrast_loss(
    memory: ClassMemory, selectors: Selectors, vectors: Tensor, labels: Tensor, rows: Rows | None = None
) -> Tensor:
    """Sum over the classes c of sum_i(s_i (1 - mean_j cos(q_i, m_j))) / sum_i(s_i), divided by the number of classes.

    q are the `vectors` `[M, width]` with label c of `labels` `[M]`, m the memory of c, s the scores of q by c's
    selector, whose gradient does not go on to q. Background, and classes with fewer than two vectors here or in memory,
    are left out; without any the loss is zero with zero gradient. `rows` are the `usable_rows` where these are known.
    """
    total = full_precision(vectors[:0]).sum() + sum(p.flatten()[:0].sum() for p in selectors.parameters())
    for label, where in usable_rows(memory, labels) if rows is None else rows:
        found = vectors.index_select(0, where)
        gap = 1 - (direction(found) * memory.mean_direction(label)).sum(1)
        scores = selectors(label, found.detach())
        # Scores that underflow have a sum of zero, and nothing to say.
        total = total + (gap * scores).sum() / scores.sum().clamp(min=torch.finfo(scores.dtype).tiny)
    return total / len(memory.kept)


def _by_class(labels: Tensor, classes: int) -> list[tuple[int, Tensor]]:
    """Every class with the positions of its labels; the host waits once for the counts."""
    counts = class_counts(labels, classes).tolist()
    return list(enumerate(torch.split(labels.argsort(stable=True), counts)))
