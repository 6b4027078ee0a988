"""Differences between the features of two decoders, for the next presentation of a batch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from semiseg.ingredients.class_sums import full_precision, probabilities

Encoding = Literal["a_minus_b", "b_minus_a", "absolute", "entropy"]
ENCODING_DOC = (
    "how the discrepancy of decoders A and B is written: `a_minus_b`, `b_minus_a`, `absolute` difference, or `entropy` "
    "over the channels of the mean of both"
)


def feature_difference(a: Tensor, b: Tensor, encoding: Encoding) -> Tensor:
    """Difference of the features `a` and `b` `[B, C, *S]` of two decoders (LeFeD, arXiv:2309.14819), no gradient.

    `[B, C, *S]`; for `entropy` `[B, 1, *S]`: of the softmax over the channels of (a + b) / 2, a reading of a term that
    the paper names but does not define. In float32, for it is added to features that are a thousand times as large.
    """
    a, b = full_precision(a.detach()), full_precision(b.detach())
    match encoding:
        case "a_minus_b":
            return a - b
        case "b_minus_a":
            return b - a
        case "absolute":
            return (a - b).abs()
        case "entropy":
            q = probabilities((a + b) / 2)
            return -(q * torch.log(q + 1e-6)).sum(1, keepdim=True)
