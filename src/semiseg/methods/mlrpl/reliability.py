"""Which labels of one decoder another one takes, and how much they count."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.ingredients.class_sums import full_precision, probabilities
from semiseg.ingredients.confidence import entropy
from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.prototypes import prototype_sums
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.reduce import batch_sum

_SMALL = 1e-6


@torch.no_grad()
def reliability(student: Tensor, teacher: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Voxels where the teacher is surer than the student, and there the weight of its label, both `[B, *S]` (MLRPL).

    The weight is the mean over classes of 1 - (t - p)^2, p the teacher's probability of a class and t the cosine of its
    feature there and the mean of its features where it says that class, of the same sample.

    Args:
        student, teacher: logits `[B, C, *S]`.
        features: the teacher's, `[B, width, *S]`.
    """
    mask = entropy(probabilities(student)) > entropy(probabilities(teacher))
    prototypes = sample_prototypes(features, hard_labels(teacher), teacher.shape[1])
    directions = F.normalize(full_precision(features).flatten(2), dim=1)
    with torch.autocast(features.device.type, enabled=False):
        agreement = (prototypes @ directions).view(teacher.shape)
    weight = 1 - (agreement - probabilities(teacher)).square().mean(1)
    return mask, weight * mask


def sample_prototypes(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean feature of every class in every sample, of length one, `[B, C, width]`; zero for an absent class."""
    sums, counts = prototype_sums(features, one_hot(labels, classes))
    return F.normalize(sums / (counts.unsqueeze(2) + _SMALL), dim=2)


def reliable_cross_entropy(logits: Tensor, labels: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Sum of `weight` times the cross-entropy of `logits` `[B, C, *S]`, over the number of voxels in `mask`."""
    surprise = F.cross_entropy(full_precision(logits), labels, reduction="none")
    total, kept = batch_sum(torch.stack([(surprise * weight).sum(), mask.sum().to(surprise.dtype)]))
    loss: Tensor = total / (kept + _SMALL)
    return loss
