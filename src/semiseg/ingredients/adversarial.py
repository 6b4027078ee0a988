"""Opponents of a network: a head that is wrong where it can be."""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.losses import cross_entropy


def shifted_log(x: Tensor) -> Tensor:
    """The logarithm of min(x + 1e-6, 1), finite at 0 and never above 0."""
    return torch.log((x + 1e-6).clamp(max=1.0))


def worst_case_loss(worst: Tensor, labels: Tensor, labelled: int, margin: float) -> Tensor:
    """Loss of a head that agrees with `labels` on labelled samples and contradicts them on the others (DST).

    margin CE on the first `labelled` samples - mean of ln(min(1 - p + 1e-6, 1)) over the voxels of the others, p the
    probability of the label (arXiv:2202.07136).

    Args:
        worst: logits `[B, C, *S]` of that head.
        labels: `[B, *S]`, those of the main head.
        labelled: number of labelled samples.
        margin: weight of the agreement.
    """
    agree = cross_entropy(worst[:labelled], labels[:labelled])
    if len(worst) == labelled:
        return margin * agree
    p = torch.softmax(full_precision(worst[labelled:]), 1).gather(1, labels[labelled:].unsqueeze(1))
    return margin * agree - shifted_log(1 - p).mean()
