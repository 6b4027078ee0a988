"""Views of images with strongly changed grey values, and boxes of unlike sides; drawn per sample, on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from pydantic import BaseModel, Field
from torch import Tensor
from torch.nn import functional as F

from semiseg.ingredients.mixtures import box_mask

BOX_AREA = (0.02, 0.4)
"""Least and largest share of the voxels in a box."""
BOX_RATIO = 0.3
"""Least ratio of the sides of a box; the largest is its inverse."""
LEAST_SIGMA = 0.1
_TRIES = 32


class GreyViewOptions(BaseModel):
    """How strongly the grey values of views are changed; a method's options may include these."""

    jitter: float = Field(0.8, ge=0, le=1, description="probability that brightness and contrast of a view change")
    jitter_strength: float = Field(0.5, ge=0, lt=1, description="their factors lie between 1 - and 1 + this")
    blur: float = Field(0.5, ge=0, le=1, description="probability that a strong view is blurred")
    blur_sigma: float = Field(2.0, gt=LEAST_SIGMA, le=5, description="largest deviation of the blur, voxels")

    def strong(self, images: Tensor) -> Tensor:
        """A strong view of weak views `[B, channels, *S]`: brightness and contrast in random order, then blur."""
        uniform = torch.rand(6, len(images), device=images.device)
        changed = uniform[0] < self.jitter
        factors = torch.where(changed, 1 + self.jitter_strength * (2 * uniform[1:3] - 1), 1.0)
        view = jittered(images, factors[0], factors[1], uniform[3] < 0.5)
        sigma = LEAST_SIGMA + (self.blur_sigma - LEAST_SIGMA) * uniform[4]
        blurry = (uniform[5] < self.blur).view(-1, *(1,) * (images.ndim - 1))
        return torch.where(blurry, blurred(view, sigma, math.ceil(3 * self.blur_sigma)), view)


class StrongViewOptions(GreyViewOptions):
    """The same, with a box of another patch."""

    box: float = Field(0.5, ge=0, le=1, description="probability that a strong view has a box of another patch")

    def boxes(self, images: Tensor) -> Tensor:
        """Where each sample of `images` shows its partner, bool `[B, 1, *S]`; see `draw_boxes`."""
        shape = tuple(images.shape[2:])
        lower, sides = draw_boxes(len(images), shape, images.device)
        shown = torch.rand(len(images), 1, device=images.device) < self.box
        return box_mask(lower, lower + sides * shown, shape)


class ViewOptions(Protocol):
    """How views are changed, and where they show other patches."""

    def strong(self, images: Tensor) -> Tensor: ...
    def boxes(self, images: Tensor) -> Tensor: ...


class MixedView(NamedTuple):
    """Strong views `[B, channels, *S]` with boxes of their partners, and where these are, bool `[B, *S]`."""

    images: Tensor
    inside: Tensor

    def target(self, own: Tensor, partner: Tensor) -> Tensor:
        """What belongs to each voxel, of maps `[B, *S]` of the patches and of their partners."""
        return torch.where(self.inside, partner, own)


def mixed_views(options: ViewOptions, images: Tensor, order: Tensor, count: int = 2) -> list[MixedView]:
    """`count` strong views of `images`, each with boxes of the same views of the patches in `order`."""
    strong, boxes = [options.strong(images) for _ in range(count)], [options.boxes(images) for _ in range(count)]
    return [
        MixedView(torch.where(box, view[order], view), box.squeeze(1)) for view, box in zip(strong, boxes, strict=True)
    ]


def jittered(images: Tensor, brightness: Tensor, contrast: Tensor, contrast_first: Tensor) -> Tensor:
    """`images` `[B, channels, *S]` with brightness and contrast times factors `[B]`, within each sample's own range.

    A sample is brought to 0 ... 1 by its least and largest value, which is what the changes of pictures are made for;
    brightness multiplies it, contrast stretches it about its mean, and the result is cut to 0 ... 1 and brought back.
    """
    rows, ones = images.flatten(1), (-1, *(1,) * (images.ndim - 1))
    low, high = rows.amin(1).view(ones), rows.amax(1).view(ones)
    span = (high - low).clamp(min=torch.finfo(images.dtype).tiny)
    x = (images - low) / span
    b, c, first = (value.view(ones) for value in (brightness, contrast, contrast_first))
    x = torch.where(first, _stretched(x, c) * b, _stretched(x * b, c))
    return x.clamp(0, 1) * span + low


def _stretched(x: Tensor, factor: Tensor) -> Tensor:
    mean = x.flatten(1).mean(1).view(-1, *(1,) * (x.ndim - 1))
    return (x - mean) * factor + mean


def blurred(images: Tensor, sigmas: Tensor, radius: int) -> Tensor:
    """Gaussian blur of `images` `[B, channels, *S]` with deviations `[B]` in voxels, edges repeated."""
    places = torch.arange(-radius, radius + 1, device=images.device)
    weights = torch.exp(-0.5 * (places / sigmas.unsqueeze(1)) ** 2)
    weights = (weights / weights.sum(1, keepdim=True)).to(images.dtype)
    x = images
    for axis in range(2, images.ndim):
        x = x.movedim(axis, -1)
        moved = x.shape
        rows = F.pad(x.flatten(1, -2), (radius, radius), mode="replicate")
        x = torch.einsum("brsk,bk->brs", rows.unfold(2, 2 * radius + 1, 1), weights)
        x = x.view(moved).movedim(-1, axis)
    return x.contiguous()


def draw_boxes(count: int, shape: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Corners and sides `[count, dims]` of boxes with 2 to 40 % of the voxels and unlike sides (arXiv:2208.09910).

    Shape and place are drawn until the box lies inside; of so many tries that one nearly always does, the first.
    """
    dims, full = len(shape), torch.tensor(shape, device=device)
    area = BOX_AREA[0] + (BOX_AREA[1] - BOX_AREA[0]) * torch.rand(count, 1, device=device)
    ratios = BOX_RATIO + (1 / BOX_RATIO - BOX_RATIO) * torch.rand(count, _TRIES, dims - 1, device=device)
    sides = box_sides(shape, area, ratios)
    lower = (torch.rand(count, _TRIES, dims, device=device) * full).long()
    inside = (lower + sides <= full).all(2)
    chosen = inside.to(torch.uint8).argmax(1).view(-1, 1, 1).expand(-1, 1, dims)
    lower, sides = (each.gather(1, chosen).squeeze(1) for each in (lower, sides))
    return lower, torch.minimum(sides, full - lower)


def box_sides(shape: Sequence[int], area: Tensor, ratios: Tensor) -> Tensor:
    """Sides `[..., dims]` in voxels of boxes with shares `area` `[...]` of the voxels.

    In 2D the ratio `[..., 1]` is that of the first side to the second; in 3D the ratios are those of the first and of
    the second side to the third, all relative to the sides of the patch.
    """
    relative = torch.cat([ratios, torch.ones_like(ratios[..., :1])], -1)
    scale = (area / relative.prod(-1)) ** (1 / len(shape))
    full = torch.tensor(shape, device=ratios.device, dtype=ratios.dtype)
    return (full * scale.unsqueeze(-1) * relative + 1e-9).long()
