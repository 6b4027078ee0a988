"""Opponents of a network: a head that is wrong where it can be, and the noise that changes a prediction most."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.ema import frozen_statistics
from semiseg.ingredients.losses import cross_entropy

Distance = Callable[[Tensor, Tensor], Tensor]
"""Of logits `[B, C, *S]` from probabilities of that shape, a scalar."""


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


def unit_noise(values: Tensor) -> Tensor:
    """`values` `[B, channels, *S]` with length one per sample."""
    lengths = values.flatten(1).norm(dim=1).view(-1, *(1,) * (values.ndim - 1))
    scaled: Tensor = values / (lengths + 1e-8)
    return scaled


def adversarial_direction(net: nn.Module, images: Tensor, target: Tensor, start: Tensor, distance: Distance) -> Tensor:
    """The direction, of length one per sample, in which the prediction leaves `target` fastest (arXiv:1704.03976).

    One power iteration. Parameters get no gradient, and running statistics stay as they are.

    Args:
        net: gives logits of images.
        images: `[B, channels, *S]`.
        target: probabilities `[B, C, *S]`.
        start: where the gradient is taken, added to the images, `[B, channels, *S]`.
        distance: of logits from the target.
    """
    with torch.enable_grad(), frozen_statistics(net):
        start = start.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(distance(net(images + start), target), start)
    return unit_noise(full_precision(gradient))


def most_sensitive(predict: Callable[[Tensor], Tensor], x: Tensor, start: Tensor, reach: float) -> Tensor:
    """The direction, of length one per sample, in which a prediction diverges from the clean one (PS-MT).

    One power iteration of the Kullback-Leibler divergence, in full precision; `predict` must leave its state as it is.

    Args:
        predict: logits of what `x` is, images or features.
        x: `[B, channels, *S]`.
        start: the first direction, of that shape.
        reach: how far along it the gradient is taken.
    """
    with torch.autocast(x.device.type, enabled=False):
        with torch.no_grad():
            clean = torch.softmax(predict(x), 1)
        with torch.enable_grad():
            start = start.detach().requires_grad_()
            log_p = F.log_softmax(predict(x + reach * start), 1)
            (gradient,) = torch.autograd.grad(F.kl_div(log_p, clean, reduction="batchmean"), start)
    return unit_noise(gradient)


def virtual_adversarial_loss(
    net: nn.Module, images: Tensor, distance: Distance, magnitude: float, reach: float = 10.0
) -> Tensor:
    """Distance of the prediction at the most sensitive direction from the clean one, which gets no gradient.

    Only the clean pass moves running statistics. The first direction is drawn from torch's default generator.

    Args:
        net, images, distance: as of `adversarial_direction`.
        magnitude: length of the noise per sample.
        reach: length of the random noise at which the sensitive direction is looked for.
    """
    with torch.no_grad():
        target = torch.softmax(full_precision(net(images)), 1)
    start = reach * unit_noise(torch.rand_like(images) - 0.5)
    noise = magnitude * adversarial_direction(net, images, target, start, distance)
    with frozen_statistics(net):
        return distance(net(images + noise), target)
