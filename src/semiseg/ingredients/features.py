"""Agreement of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.fusion import fusable
from semiseg.ingredients.levels import Reduction
from semiseg.ingredients.reduce import batch_sum

Direction = Literal["a_to_b", "b_to_a", "symmetric"]
_VECTOR_WIDTH = 16
"""Float32 numbers in the widest vector registers of CPUs."""


class FeatureOptions(BaseModel):
    """How features of two networks are compared; a method's options may include these."""

    kl_direction: Direction = Field("a_to_b", description="direction of the divergence of features")
    kl_temperature: float = Field(1.0, gt=0, description="divides the features before their softmax")
    kl_detach: Literal["none", "a", "b"] = Field("none", description="network whose features get no gradient")
    kl_reversed: bool = Field(False, description="give the coarsest decoder stage the largest weight")


def channel_kl(a: Tensor, b: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(P || Q) of the softmaxes P, Q over the channels of `a` and `b` `[B, C, *S]`, mean over positions and samples.

    Gradient flows to both unless one is detached, and is not differentiable again; identical features give 0.
    """
    if a.numel() == 0:
        return a.sum() + b.sum()
    positions = a.numel() // a.shape[1]
    a, b = full_precision(a), full_precision(b)
    if temperature != 1:
        a, b = a / temperature, b / temperature
    last, other = a.movedim(1, -1), b.movedim(1, -1)
    # Softmax over any axis but the last one copies features whose channels lie side by side; short rows are slow.
    beside = a.shape[1] >= _VECTOR_WIDTH and last.is_contiguous() and other.is_contiguous()
    total: Tensor = _Divergence.apply(*((last, other, -1) if beside else (a, b, 1)))  # type: ignore[no-untyped-call]
    return total / positions


def stage_weights(stages: int) -> list[float]:
    """Weight per decoder stage from the bottleneck on: 0.2 k for the paper's four, up to 0.8 for any number."""
    return [0.8 * k / stages for k in range(1, stages + 1)]


def feature_consistency(
    a: Sequence[Tensor], b: Sequence[Tensor], weights: Sequence[float], direction: Direction, temperature: float = 1.0
) -> Tensor:
    """Weighted sum over stages of `channel_kl` (MICD, arXiv:2503.14013, Eq. 4).

    Args:
        a, b: features of two networks per stage, of equal shapes.
        weights: one per stage.
        direction: `a_to_b`, KL(A || B); `b_to_a`, KL(B || A); `symmetric`, their mean.
        temperature: divides the features before the softmax.
    """
    terms = []
    for weight, of_a, of_b in zip(weights, a, b, strict=True):
        if weight == 0:  # times a divergence that overflows, it would still be no number
            continue
        forth = channel_kl(of_a, of_b, temperature) if direction != "b_to_a" else None
        back = channel_kl(of_b, of_a, temperature) if direction != "a_to_b" else None
        both = [kl for kl in (forth, back) if kl is not None]
        terms.append(weight * torch.stack(both).mean())
    return torch.stack(terms).sum() if terms else a[0].new_zeros(())


def decoder_consistency(a: Sequence[Tensor], b: Sequence[Tensor], options: FeatureOptions) -> Tensor:
    """`feature_consistency` of the decoder stages of networks A and B, coarse to fine, with `stage_weights`."""
    o = options
    a, b = ([f.detach() if o.kl_detach == name else f for f in each] for name, each in (("a", a), ("b", b)))
    weights = stage_weights(len(a))[:: -1 if o.kl_reversed else 1]
    return feature_consistency(a, b, weights, o.kl_direction, o.kl_temperature)


def feature_mse(a: Sequence[Tensor], b: Sequence[Tensor], reduction: Reduction = "mean") -> Tensor:
    """Sum over levels of the squared difference of features `[B, Z, *S]`, mean over voxels and samples.

    Over channels it is the mean, or the `sum` as printed (DuCiSC, arXiv:2507.21440, Eq. 13).
    """
    levels = [_mse(full_precision(x), full_precision(y)) for x, y in zip(a, b, strict=True)]
    if reduction == "sum":
        levels = [level * x.shape[1] for level, x in zip(levels, a, strict=True)]
    return torch.stack(levels).sum()


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


def _mse(a: Tensor, b: Tensor) -> Tensor:
    """Over the batch of all processes, so that a quotient of it is the same on each of them."""
    total = (a - b).square().sum()
    summed, count = batch_sum(torch.stack([total, total.new_full((), a.numel())]))
    mean: Tensor = summed / count.clamp(min=1)
    return mean
