"""Labels that networks give."""

from __future__ import annotations

from torch import Tensor

from semiseg.ingredients.class_sums import probabilities


def hard_labels(logits: Tensor) -> Tensor:
    """Most probable class per voxel, `[B, *S]` from `[B, C, *S]`, the first one of equals; no gradient."""
    # On the CPU argmax over an inner axis takes ten times as long as max, which finds the same.
    return logits.detach().max(1).indices


def threshold_labels(logits: Tensor) -> Tensor:
    """`hard_labels`, but of two classes the foreground wins a tie (softmax of at least 1/2), as in BCP and CML."""
    if logits.shape[1] != 2:
        return hard_labels(logits)
    return (probabilities(logits.detach())[:, 1] >= 0.5).long()
