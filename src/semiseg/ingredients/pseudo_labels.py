"""Labels that networks give."""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg.ingredients.class_sums import full_precision, probabilities


def hard_labels(logits: Tensor) -> Tensor:
    """Most probable class per voxel, `[B, *S]` from `[B, C, *S]`, the first one of equals; no gradient."""
    # On the CPU argmax over an inner axis takes ten times as long as max, which finds the same.
    return logits.detach().max(1).indices


def confident_labels(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of the most probable class per voxel and that class, both `[B, *S]`; no gradient."""
    logits = full_precision(logits.detach())
    highest, labels = logits.max(1)
    return torch.exp(highest - torch.logsumexp(logits, 1)), labels


def threshold_labels(logits: Tensor) -> Tensor:
    """`hard_labels`, but of two classes the foreground wins a tie (softmax of at least 1/2), as in BCP and CML."""
    if logits.shape[1] != 2:
        return hard_labels(logits)
    return (probabilities(logits.detach())[:, 1] >= 0.5).long()
