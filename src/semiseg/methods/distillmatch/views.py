"""Strong views of scans: a bias field, another gamma, blur; and boxes in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from semiseg.ingredients.mixtures import box_mask
from semiseg.ingredients.strong_views import BOX_AREA, BOX_RATIO, LEAST_SIGMA, blurred

ORDER = 3
"""Of the polynomial of the bias field."""
REACH = 0.5
"""Largest coefficient of it, and largest logarithm of gamma."""


class ViewOptions(BaseModel):
    """How strongly views are changed, and the boxes of other patches in them."""

    bias_and_gamma: float = Field(0.8, ge=0, le=1, description="probability of a bias field and another gamma")
    blur: float = Field(0.5, ge=0, le=1, description="probability that a strong view is blurred")
    blur_sigma: float = Field(2.0, gt=LEAST_SIGMA, le=5, description="largest deviation of the blur, voxels")
    box: float = Field(0.5, ge=0, le=1, description="probability that a strong view has a box of another patch")
    fix_axes: bool = Field(True, description="boxes keep their axes; false: swapped and cut off, as in the code")

    def strong(self, images: Tensor) -> Tensor:
        """A strong view of `images` `[B, channels, *S]`."""
        uniform = torch.rand(3, len(images), device=images.device)
        ones = (-1, *(1,) * (images.ndim - 1))
        changed, blurry = (uniform[0] < self.bias_and_gamma).view(ones), (uniform[1] < self.blur).view(ones)
        view = torch.where(changed, with_gamma(images * bias_field(images)), images)
        sigma = LEAST_SIGMA + (self.blur_sigma - LEAST_SIGMA) * uniform[2]
        return torch.where(blurry, blurred(view, sigma, math.ceil(3 * self.blur_sigma)), view)

    def boxes(self, images: Tensor) -> Tensor:
        """Where each of `images` shows another one, bool `[B, 1, *S]`."""
        shape = tuple(images.shape[2:])
        lower, upper = draw_boxes(len(images), shape, images.device, swap=not self.fix_axes)
        shown = torch.rand(len(images), 1, device=images.device) < self.box
        return box_mask(lower, torch.where(shown, upper, lower), shape)


def bias_field(images: Tensor) -> Tensor:
    """Exp of a random polynomial in the place of a voxel, `[B, 1, *S]`, as TorchIO draws it."""
    sides = images.shape[2:]
    axes = [torch.linspace(-1, 1, side, device=images.device, dtype=images.dtype) for side in sides]
    grids = torch.meshgrid(*axes, indexing="ij")
    powers = [each for each in product(range(ORDER + 1), repeat=len(sides)) if sum(each) <= ORDER]
    terms = [torch.stack([grid**n for grid, n in zip(grids, each, strict=True)]).prod(0) for each in powers]
    weights = REACH * (2 * torch.rand(len(images), len(terms), device=images.device, dtype=images.dtype) - 1)
    return torch.einsum("bn,n...->b...", weights, torch.stack(terms)).exp().unsqueeze(1)


def with_gamma(images: Tensor) -> Tensor:
    """`images` `[B, channels, *S]` to a random power per sample; what is negative keeps its sign."""
    draw = torch.rand(len(images), *(1,) * (images.ndim - 1), device=images.device, dtype=images.dtype)
    return images.sign() * images.abs().pow((REACH * (2 * draw - 1)).exp())


def draw_boxes(count: int, shape: Sequence[int], device: torch.device, *, swap: bool) -> tuple[Tensor, Tensor]:
    """Lower and upper corners `[count, dims]` of boxes with 2 to 40 % of the voxels.

    Sides are about equal but for a ratio between 0.3 and 1 / 0.3 of the first two. `swap`: made for the patch's axes in
    reverse order, so that they may leave it and are cut off.
    """
    dims, full = len(shape), torch.tensor(shape, device=device)
    area = (BOX_AREA[0] + (BOX_AREA[1] - BOX_AREA[0]) * torch.rand(count, device=device)) * math.prod(shape)
    ratio = BOX_RATIO + (1 / BOX_RATIO - BOX_RATIO) * torch.rand(count, device=device)
    sides = torch.stack([area / ratio, area * ratio, area][:dims], 1).pow(1 / dims).long()
    sides = torch.minimum(sides, full)
    lower = (torch.rand(count, dims, device=device) * (full - sides)).long()
    upper = lower + sides
    if swap:
        lower, upper = lower.flip(1), upper.flip(1)
    return torch.minimum(lower, full), torch.minimum(upper, full)
