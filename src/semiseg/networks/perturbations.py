"""Features changed at random before auxiliary heads (CCT, arXiv:2003.09005, as HiLab-git/SSL4MIS has them)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def drop_activations(x: Tensor) -> Tensor:
    """Half of the activations of `x` set to zero, the others doubled."""
    return F.dropout(x, 0.5)


def drop_attended(x: Tensor) -> Tensor:
    """`x` `[B, C, *S]` without the positions whose channel mean comes near its sample's largest.

    Kept is what is below a share of the largest that is drawn from 0.7 to 0.9, once for the batch.
    """
    attention = x.mean(1, keepdim=True)
    share = 0.7 + 0.2 * torch.rand((), device=x.device)
    largest = attention.flatten(1).amax(1).view(-1, *(1,) * (x.ndim - 1))
    return x * (attention < share * largest)


def add_relative_noise(x: Tensor) -> Tensor:
    """`x` times 1 + n, n uniform from -0.3 to 0.3 per channel and position, the same for all samples."""
    noise = torch.empty(x.shape[1:], dtype=x.dtype, device=x.device).uniform_(-0.3, 0.3)
    return x * (1 + noise)


_KINDS = (drop_activations, drop_attended, add_relative_noise)


def perturbed(x: Tensor, number: int) -> Tensor:
    """`x` as head `number` (coarse to fine, from 0) sees it; heads beyond the third see noise too."""
    return _KINDS[min(number, len(_KINDS) - 1)](x)
