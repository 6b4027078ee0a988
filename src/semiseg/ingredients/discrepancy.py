"""Two networks that shall look at an image in different ways."""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg.ingredients.class_sums import full_precision

EPSILON = 1e-12
"""Length below which a feature vector has no direction."""


def cosine_similarity_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 + mean cosine of the channel vectors of `a` and `b` `[B, C, *S]` over samples and positions (CML).

    Gradient flows to `a` only. A vector without length has cosine 0 and gradient 0.
    """
    if a.numel() == 0:
        return a.sum()
    return 1 + (direction(a) * direction(b.detach())).sum(1).mean()


def mutual_similarity_loss(a: Tensor, b: Tensor) -> Tensor:
    """`cosine_similarity_loss` in both directions, from 0 (opposite) to 4 (equal)."""
    return cosine_similarity_loss(a, b) + cosine_similarity_loss(b, a)


def direction(features: Tensor) -> Tensor:
    """Channel vectors of `features` `[B, C, ...]` at length one; without length they stay 0, with gradient 0."""
    features = full_precision(features)
    square = features.square().sum(1, keepdim=True)
    # The selection comes before the root, whose slope at zero is infinite.
    known = square > EPSILON**2
    return torch.where(known, features * torch.where(known, square, 1.0).rsqrt(), 0.0)
