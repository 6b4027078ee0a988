"""Strong views: grey values changed within their range, and boxes of other patches."""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg.ingredients.mixtures import box_mask, centre_box, draw_beta

CHANGED, NOISY = 0.8, 0.2
"""Probabilities of another contrast and brightness, and of noise."""
STRENGTH = 0.5
"""Contrast is a factor of 1 - to 1 + this, brightness - to + this times the mean."""
DEVIATIONS = (0.1, 1.0)
"""Least and largest deviation of the noise, in units of the images."""


def jitter(images: Tensor) -> Tensor:
    """A strong view of weak views `[B, channels, *S]`, drawn per sample as in ZhenZHAO/AD-MT."""
    uniform = torch.rand(5, len(images), device=images.device)
    ones = (-1, *(1,) * (images.ndim - 1))
    changed, contrast, brightness, noisy, deviation = (each.view(ones).to(images.dtype) for each in uniform)
    changes = changed < CHANGED
    contrast = torch.where(changes, 1 + STRENGTH * (2 * contrast - 1), 1.0)
    brightness = torch.where(changes, STRENGTH * (2 * brightness - 1), 0.0)
    low, high = DEVIATIONS
    deviation = torch.where(noisy < NOISY, low + (high - low) * deviation, 0.0)
    noise = torch.randn_like(images).clamp(-2, 2) * deviation
    return within_range(images, contrast, brightness) + noise


def within_range(images: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    """Contrast times images brought to 0 ... 1, plus `brightness` times the mean of that, cut and brought back.

    Factors are `[B, 1, ...]`.
    """
    rows, ones = images.flatten(1), contrast.shape
    least, most = rows.amin(1).view(ones), rows.amax(1).view(ones)
    span = (most - least).clamp(min=torch.finfo(images.dtype).tiny)
    x = (images - least) / span * contrast
    x = x + brightness * x.flatten(1).mean(1).view(ones)
    return x.clamp(0, 1) * span + least


def draw_boxes(images: Tensor, beta: float) -> Tensor:
    """A box for every sample of `images`, bool `[B, 1, *S]`: one size for all, from Beta(`beta`, `beta`)."""
    count, shape = len(images), tuple(images.shape[2:])
    shown = draw_beta(beta, torch.empty((), device=images.device)).expand(count)
    uniform = torch.rand(count, len(shape), device=images.device)
    return box_mask(*centre_box(shape, shown, uniform), shape)
