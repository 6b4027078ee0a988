"""Sums per class, the material of which Dice, cross-entropy and class statistics are made."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from semiseg.ingredients.fusion import fusable, fused, is_fused
from semiseg.ingredients.reduce import batch_sum

FEW = 16
"""Classes for which a GPU looks at all labels once each; for more, once, adding up in contended places."""


class ClassSums(NamedTuple):
    """Per class c, over all voxels of the batch; each `[C]`, p the softmax.

    Attributes:
        surprise: sum of -log p_c over the voxels of class c.
        overlap: sum of p_c over the voxels of class c.
        mass: sum of p_c (or of p_c^2) over all voxels.
        voxels: number of voxels of class c.
    """

    surprise: Tensor
    overlap: Tensor
    mass: Tensor
    voxels: Tensor


def class_sums(logits: Tensor, target: Tensor, *, squared: bool = False) -> ClassSums:
    """Sums of softmax(`logits`) `[B, C, *S]` against `target` `[B, *S]`, over the batch of all processes.

    One softmax serves all of them, no one-hot target is made, and one tensor is kept for the backward pass, whose
    gradient is written out. Half precision is raised to float32.
    """
    table: Tensor = _Sums.apply(full_precision(logits), target, squared)  # type: ignore[no-untyped-call]
    return ClassSums(*batch_sum(table))


def sample_sums(logits: Tensor, target: Tensor, *, squared: bool = False) -> ClassSums:
    """The same for every sample apart, each `[B, C]`, of this process only."""
    pairs = zip(torch.split(full_precision(logits), 1), torch.split(target, 1), strict=True)
    tables = [_Sums.apply(z, y, squared) for z, y in pairs]  # type: ignore[no-untyped-call]
    return ClassSums(*torch.stack(tables, 1))


def class_counts(labels: Tensor, classes: int) -> Tensor:
    """Voxels per class of `labels` (integers below `classes`, any shape), int64 `[classes]`, this process only."""
    if not labels.is_cuda:
        return torch.bincount(labels.flatten(), minlength=classes)
    # There bincount would wait for the device to learn the largest label.
    return _count_by_masks(labels, classes) if classes <= FEW else _count_by_scatter(labels, classes)


def _count_by_masks(labels: Tensor, classes: int) -> Tensor:
    return torch.stack([(labels == c).sum() for c in range(classes)])


def _count_by_scatter(labels: Tensor, classes: int) -> Tensor:
    # Integers have the same sum in any order.
    ones = torch.ones((), dtype=torch.int64, device=labels.device).expand(labels.numel())
    return torch.zeros(classes, dtype=torch.int64, device=labels.device).scatter_add_(0, labels.flatten(), ones)


def per_class(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Sum of `values` over the voxels of each class, `[classes]`; `values` and `labels` have equal shapes."""
    if values.is_cuda:  # a scatter adds in no fixed order there
        return _by_masks(values, labels, classes)
    return _by_scatter(values, labels, classes)


def _by_masks(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    return torch.stack([(values * (labels == c)).sum() for c in range(classes)])


def _by_scatter(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    # One row of partial sums per class: a single float32 accumulator would swallow small terms of a large volume.
    width = labels.shape[-1]
    rows = values.new_zeros(classes, width)
    return rows.scatter_add_(0, labels.reshape(-1, width), values.reshape(-1, width)).sum(1)


def full_precision(values: Tensor) -> Tensor:
    """`values` in float32, or as they are in float64."""
    return values if values.dtype == torch.float64 else values.float()


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over the classes of `logits` `[B, C, *S]`, in full precision."""
    return torch.softmax(full_precision(logits), 1)


class _Sums(Function):
    """Rows of `ClassSums` as one table `[4, C]`; differentiable once in the logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, squared: bool) -> Tensor:
        table, p = _table(logits, target, squared)
        ctx.save_for_backward(p, target)
        ctx.squared, ctx.fused = squared, is_fused()
        return table

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, table: Tensor) -> tuple[Tensor, None, None]:
        p, target = ctx.saved_tensors
        with fused(ctx.fused):
            return _gradient(p, target, table, ctx.squared), None, None


@fusable
def _table(logits: Tensor, target: Tensor, squared: bool) -> tuple[Tensor, Tensor]:
    """Rows of the sums, and the softmax."""
    classes = logits.shape[1]
    space = (0, *range(2, logits.ndim))
    log_p = F.log_softmax(logits, 1)
    log_hit = log_p.gather(1, target.unsqueeze(1)).squeeze(1)
    p = log_p.exp_()
    rows = [
        per_class(-log_hit, target, classes),
        per_class(log_hit.exp(), target, classes),
        (p * p if squared else p).sum(space),
        class_counts(target, classes).to(p.dtype),
    ]
    return torch.stack(rows), p


@fusable
def _gradient(p: Tensor, target: Tensor, table: Tensor, squared: bool) -> Tensor:
    """Gradient in the logits, of the softmax `p` and the gradient `table` of the rows."""
    where = target.unsqueeze(1)
    surprise, overlap, mass, _ = table
    at_target = p.gather(1, where).mul_(_look_up(overlap, where))
    surprise_here = _look_up(surprise, where)
    per_voxel = mass.view(1, -1, *(1,) * (p.ndim - 2))
    slope = 2 * p * per_voxel if squared else per_voxel
    # softmax: d/dz = p * (d/dp - <p, d/dp>), with the target's share added where it falls
    mean = (p * slope).sum(1, keepdim=True) + at_target
    gradient: Tensor = (slope + (surprise_here - mean)).mul_(p)
    return gradient.scatter_add_(1, where, at_target - surprise_here)


def _look_up(table: Tensor, index: Tensor) -> Tensor:
    return table.index_select(0, index.flatten()).view_as(index)
