"""Agreement of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.fusion import fusable

_VECTOR_WIDTH = 16
"""Float32 numbers in the widest vector registers of CPUs."""


def channel_kl(a: Tensor, b: Tensor) -> Tensor:
    """KL(P || Q) of the softmaxes P, Q over the channels of `a` and `b` `[B, C, *S]`, mean over positions and samples.

    Gradient flows to both unless one is detached, and is not differentiable again; identical features give 0.
    """
    if a.numel() == 0:
        return a.sum() + b.sum()
    positions = a.numel() // a.shape[1]
    a, b = full_precision(a), full_precision(b)
    last, other = a.movedim(1, -1), b.movedim(1, -1)
    # Softmax over any axis but the last one copies features whose channels lie side by side; short rows are slow.
    beside = a.shape[1] >= _VECTOR_WIDTH and last.is_contiguous() and other.is_contiguous()
    total: Tensor = _Divergence.apply(*((last, other, -1) if beside else (a, b, 1)))  # type: ignore[no-untyped-call]
    return total / positions


def stage_weights(stages: int) -> list[float]:
    """Weight per decoder stage from the bottleneck on: 0.2 k for the paper's four, up to 0.8 for any number."""
    return [0.8 * k / stages for k in range(1, stages + 1)]


def decoder_consistency(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Sum of `channel_kl` over decoder stages with `stage_weights` (MICD, arXiv:2503.14013, Eq. 4).

    Args:
        a, b: features of two networks per stage, coarse to fine, of equal shapes.
    """
    stages = zip(stage_weights(len(a)), a, b, strict=True)
    return torch.stack([weight * channel_kl(of_a, of_b) for weight, of_a, of_b in stages]).sum()


class _Divergence(Function):
    """KL(P || Q) of the softmaxes along an axis, summed over all others; differentiable once.

    Both gradients are made of what the value is made of, so they are written out beside it.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, axis: int) -> Tensor:
        total, *slopes = _divergence(a, b, axis, ctx.needs_input_grad[:2])
        ctx.save_for_backward(*slopes)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, total: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        of_a, of_b = (None if slope is None else slope * total for slope in ctx.saved_tensors)
        return of_a, of_b, None


@fusable
def _divergence(
    a: Tensor, b: Tensor, axis: int, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The sum, and its gradients in `a` and `b` where they are wanted."""
    log_p, log_q = F.log_softmax(a, axis), F.log_softmax(b, axis)
    gap = log_p - log_q
    p = log_p.exp_()
    divergence = (p * gap).sum(axis, keepdim=True)
    to_a, to_b = wanted
    return (
        divergence.sum(),
        gap.sub_(divergence).mul_(p) if to_a else None,
        log_q.exp_().sub_(p) if to_b else None,
    )
