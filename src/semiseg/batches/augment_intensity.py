"""Changing grey values of a batch, each sample by its own number; every channel of a sample alike.

Images are `[B, C, *S]` float32, normalised. A sample whose number is the neutral one is left as it is, bit by bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.batches.augment_spatial import change_rows, small


def _rows(values: Sequence[float], neutral: float) -> list[int]:
    return [row for row, value in enumerate(values) if value != neutral]


def _column(values: Sequence[float], rows: Sequence[int], images: Tensor) -> Tensor:
    return small([values[row] for row in rows], images.device).view(-1, *[1] * (images.ndim - 1))


def _spread(statistic: Tensor, images: Tensor) -> Tensor:
    return statistic.view(*images.shape[:2], *[1] * (images.ndim - 2))


def add_noise(images: Tensor, deviations: Sequence[float], seeds: Sequence[int]) -> Tensor:
    """Add Gaussian noise; a sample's noise depends on its own seed only, never on its neighbours."""
    for row in _rows(deviations, 0.0):
        generator = torch.Generator(images.device).manual_seed(seeds[row])
        noise = torch.randn(images.shape[1:], generator=generator, device=images.device)
        images[row].add_(noise, alpha=deviations[row])
    return images


def blur(images: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Gaussian blur with `sigmas` in voxels, one axis after the other, edges repeated."""
    rows = _rows(sigmas, 0.0)
    if not rows:
        return images
    radius = math.ceil(3 * max(sigmas))
    weights = small([_half_kernel(sigmas[row], radius) for row in rows], images.device)
    return change_rows(images, rows, lambda part: _blur_axes(part, weights, radius))


def _half_kernel(sigma: float, length: int) -> list[float]:
    """Weights at distances 0..length; they end at the kernel's own radius, whatever the batch's longest kernel is."""
    radius = math.ceil(3 * sigma)
    weights = [math.exp(-0.5 * (k / sigma) ** 2) if k <= radius else 0.0 for k in range(length + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    return [weight / total for weight in weights]


def _blur_axes(images: Tensor, weights: Tensor, radius: int) -> Tensor:
    for axis in range(2, images.ndim):
        side = images.shape[axis]
        pads = [0, 0] * (images.ndim - 1 - axis) + [radius, radius] + [0, 0] * (axis - 2)
        padded = F.pad(images, pads, mode="replicate")
        columns = weights.view(len(images), radius + 1, *[1] * (images.ndim - 1))
        images = padded.narrow(axis, radius, side) * columns[:, 0]
        for k in range(1, radius + 1):
            pair = padded.narrow(axis, radius - k, side) + padded.narrow(axis, radius + k, side)
            images.addcmul_(pair, columns[:, k])
    return images


def brightness(images: Tensor, factors: Sequence[float]) -> Tensor:
    """Multiply grey values."""
    rows = _rows(factors, 1.0)
    return change_rows(images, rows, lambda part: part * _column(factors, rows, part))


def contrast(images: Tensor, factors: Sequence[float]) -> Tensor:
    """Stretch grey values about each channel's mean and clip them to the range they had."""
    rows = _rows(factors, 1.0)

    def stretch(part: Tensor) -> Tensor:
        flat = part.flatten(2)
        low, high = torch.aminmax(flat, dim=2)
        mean = _spread(flat.mean(2), part)
        stretched = (part - mean) * _column(factors, rows, part) + mean
        return stretched.clamp(_spread(low, part), _spread(high, part))

    return change_rows(images, rows, stretch)


def lower_resolution(images: Tensor, zooms: Sequence[Sequence[float]]) -> Tensor:
    """Show samples as if they had been acquired with fewer voxels, `zooms` times as many along each spatial axis.

    Down by nearest voxels and up again linearly over the same field of view, as nnU-Net does (which goes up by cubic
    splines). Both are separable, so that an axis takes two reads whatever the zooms of the samples.
    """
    rows = [row for row, zoom in enumerate(zooms) if any(factor != 1 for factor in zoom)]

    def coarsen(part: Tensor) -> Tensor:
        for axis in range(2, part.ndim):
            sides = [(part.shape[axis], max(round(part.shape[axis] * zooms[row][axis - 2]), 1)) for row in rows]
            if any(side != low for side, low in sides):
                left, right, share = zip(*(_coarse_voxels(*each) for each in sides), strict=True)
                near = _broad(small(share, part.device), part, axis)
                part = torch.lerp(_taken(part, left, axis), _taken(part, right, axis), near)
        return part

    return change_rows(images, rows, coarsen)


def _coarse_voxels(side: int, low: int) -> tuple[list[int], list[int], list[float]]:
    """Of `side` voxels: which two show the coarse voxels beside each, and how near it is to the right one."""
    places = [min(max((i + 0.5) * low / side - 0.5, 0.0), low - 1.0) for i in range(side)]
    lefts = [int(place) for place in places]
    shown = [min(int((voxel + 0.5) * side / low), side - 1) for voxel in range(low)]
    rights = [min(left + 1, low - 1) for left in lefts]
    shares = [place - left for place, left in zip(places, lefts, strict=True)]
    return [shown[voxel] for voxel in lefts], [shown[voxel] for voxel in rights], shares


def _taken(images: Tensor, voxels: Sequence[Sequence[int]], axis: int) -> Tensor:
    index = small(voxels, images.device, torch.int64)
    return images.gather(axis, _broad(index, images, axis).expand(images.shape))


def _broad(values: Tensor, images: Tensor, axis: int) -> Tensor:
    """`[n, side]` along the samples and one axis of `images`."""
    return values.view(len(values), *(-1 if each == axis else 1 for each in range(1, images.ndim)))


def gamma(images: Tensor, exponents: Sequence[float], inverted: Sequence[bool]) -> Tensor:
    """Raise grey values, scaled to 0..1, to a power; each channel's mean and deviation are kept.

    An `inverted` sample is negated before and after, so that its bright end is bent instead of its dark end.
    """
    rows = _rows(exponents, 1.0)

    def bend(part: Tensor) -> Tensor:
        sign = _column([-1.0 if i else 1.0 for i in inverted], rows, part)
        part = part * sign
        low, high = torch.aminmax(part.flatten(2), dim=2)
        unit = (part - _spread(low, part)) / _spread((high - low).clamp_min(1e-7), part)
        bent = unit.pow_(_column(exponents, rows, part))
        spread, mean = torch.std_mean(part.flatten(2), dim=2, correction=0)
        bent_spread, bent_mean = torch.std_mean(bent.flatten(2), dim=2, correction=0)
        factor = _spread(spread / bent_spread.clamp_min(1e-7), part)
        return ((bent - _spread(bent_mean, part)) * factor + _spread(mean, part)) * sign

    return change_rows(images, rows, bend)
