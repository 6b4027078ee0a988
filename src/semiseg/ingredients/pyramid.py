"""Agreement of several predictions of one image with their mean (URPC, MICCAI 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.reduce import batch_sum


class Spread(NamedTuple):
    """Probabilities of several heads, `each` `[B, C, *S]`, their `mean`, and `variance` KL(mean || each) `[B, *S]`."""

    each: list[Tensor]
    mean: Tensor
    variance: list[Tensor]


def spread(logits: Sequence[Tensor]) -> Spread:
    """The spread of the softmaxes of `logits`, each `[B, C, *S]`; gradient flows through all of it."""
    log_p = [F.log_softmax(full_precision(z), 1) for z in logits]
    log_mean = torch.logsumexp(torch.stack(log_p), 0) - math.log(len(log_p))
    mean = log_mean.exp()
    return Spread([p.exp() for p in log_p], mean, [(mean * (log_mean - p)).sum(1) for p in log_p])


def rectified_consistency(found: Spread) -> Tensor:
    """Per head the squared distance from the mean, weighted by the certainty exp(-V), plus the mean of V, `[heads]`.

    mean((q - p)^2 exp(-V)) / (mean(exp(-V)) + 1e-8) + mean(V), means over samples, voxels and (the first one) classes.
    Without samples it is zero.
    """
    rows = []
    for p, variance in zip(found.each, found.variance, strict=True):
        certain = torch.exp(-variance)
        gap = (found.mean - p).square().mean(1) * certain
        rows.append(torch.stack([gap.sum(), certain.sum(), variance.sum(), torch.ones_like(variance).sum()]))
    gap, certain, variance, voxels = batch_sum(torch.stack(rows)).unbind(1)
    voxels = voxels.clamp(min=1)
    return (gap / voxels) / (certain / voxels + 1e-8) + variance / voxels
