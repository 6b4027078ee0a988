"""How alike features are to those of a memory, as two networks see it."""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg.ingredients.class_sums import full_precision


def surest(confidence: Tensor, labels: Tensor, classes: int, most: int) -> Tensor:
    """Places of the rows with the highest `confidence` `[M]`, at most `most` of each class, class by class.

    A class with a single row has none.
    """
    found = []
    for label in range(classes):
        rows = (labels == label).nonzero().flatten()
        if len(rows) > 1:
            found.append(rows[confidence[rows].topk(min(most, len(rows))).indices])
    return torch.cat(found) if found else labels.new_zeros(0)


def correlations(features: Tensor, memory: Tensor, temperature: float) -> Tensor:
    """Softmax over the rows of `memory` `[K, Z]` of the products with `features` `[M, Z]`, `[M, K]`."""
    with torch.autocast(features.device.type, enabled=False):
        features = full_precision(features)
        return torch.softmax(features @ memory.to(features.dtype).T / temperature, 1)


def correlation_loss(of_v: Tensor, of_a: Tensor) -> Tensor:
    """Mean cross-entropy of correlations `[M, K]` of v against those of a, gradient to both; 0 without rows (CAML)."""
    return -(of_a * torch.log(of_v + 1e-8)).sum() / max(len(of_v), 1)
