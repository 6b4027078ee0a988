"""Images composed of two: Mixup, CutMix, CutOut and Copy-Paste.

Each is told by the share of the first image per voxel, `[B, 1, *S]` or, for the whole image, `[B, 1, 1 ...]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Tensor

from semiseg.errors import raise_all
from semiseg.ingredients.levels import one_hot


class MixingOptions(BaseModel):
    """How images are mixed; a method's options may include these."""

    mixing: Literal["mixup", "cutmix", "cutout", "copy_paste"] = Field(
        "mixup",
        description="how a labelled and an unlabelled image are mixed: `mixup`, a weighted mean; `cutmix`, a box of "
        "the labelled one; `copy_paste`, its foreground; `cutout`, a box of the unlabelled one set to 0, whose labels "
        "stay",
    )
    mix_low: float = Field(0.25, ge=0, le=1, description="least share of the labelled image in Mixup")
    mix_high: float = Field(0.75, ge=0, le=1, description="largest share of the labelled image in Mixup")
    mix_beta: float | None = Field(
        None, gt=0, description="Mixup with a share from Beta(b, b) instead of one between `mix_low` and `mix_high`"
    )
    box_side: float = Field(2 / 3, gt=0, le=1, description="side of the box of CutMix and CutOut, as a share")
    box_beta: float | None = Field(
        None, gt=0, description="boxes by the rule of CutMix instead, with a shown share from Beta(b, b)"
    )
    paste_low: float = Field(1.0, gt=0, description="least size of what Copy-Paste pastes, as a factor per axis")
    paste_high: float = Field(1.0, gt=0, description="largest size of it; 1 and 1: as it is")


class Mixer:
    """Draws mixtures of pairs and makes them.

    Raises:
        InputError: the least share or size is above the largest.
    """

    def __init__(self, options: MixingOptions) -> None:
        self.options = o = options
        bounds = {"mix": (o.mix_low, o.mix_high), "paste": (o.paste_low, o.paste_high)}
        raise_all(
            [
                f"{name}_low: expected at most {name}_high ({high}), came {low}"
                for name, (low, high) in bounds.items()
                if low > high
            ]
        )

    def resized(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The first images `[B, channels, *S]` and their labels `[B, *S]`, in a size of each sample's own.

        The scale jitter of Copy-Paste (Ghiasi et al., CVPR 2021), of which factors from 0.8 to 1.25 are the standard;
        the flips that go with it there are the augmentation's. Otherwise both stay what they are.
        """
        o = self.options
        if o.mixing != "copy_paste" or o.paste_low == o.paste_high == 1:
            return images, labels
        uniform = torch.rand(len(labels), device=labels.device)
        return rescale(images, labels, o.paste_low + (o.paste_high - o.paste_low) * uniform)

    def draw(self, labels: Tensor) -> Tensor:
        """Shares of the first images, whose labels are `[B, *S]`, from torch's default generator."""
        o, pairs, shape = self.options, len(labels), labels.shape[1:]
        uniform = torch.rand(pairs, len(shape) + 1, device=labels.device)
        if o.mixing == "mixup":
            between = o.mix_low + (o.mix_high - o.mix_low) * uniform[:, 0]
            share = between if o.mix_beta is None else draw_beta(o.mix_beta, between)
            return share.view(-1, *(1,) * (len(shape) + 1))
        if o.mixing == "copy_paste":
            return (labels > 0).unsqueeze(1).to(uniform.dtype)
        if o.box_beta is None:
            lower, upper = corner_box(shape, o.box_side, uniform[:, 1:])
        else:
            lower, upper = centre_box(shape, draw_beta(o.box_beta, uniform[:, 0]), uniform[:, 1:])
        return box_mask(lower, upper, shape).to(uniform.dtype)

    def images(self, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
        """The mixed images `[B, channels, *S]`."""
        return mix(torch.zeros_like(first) if self.options.mixing == "cutout" else first, second, share)

    def target_share(self, share: Tensor) -> Tensor:
        """Share of the first image's labels: the same, but for CutOut, which shows nothing of it."""
        return torch.zeros_like(share) if self.options.mixing == "cutout" else share


class Mixed(NamedTuple):
    """Mixed images `[B, channels, *S]`, their class probabilities `[B, C, *S]`, and the first labels' share."""

    images: Tensor
    target: Tensor
    of_label: Tensor


def mix_with_labelled(mixer: Mixer, labelled: Tensor, labels: Tensor, images: Tensor, pseudo: Tensor) -> Mixed:
    """Mixtures of each of `images` with one of the labelled patches, which are taken in turn.

    Args:
        mixer: draws and makes them.
        labelled: patches `[n, channels, *S]`, with `labels` `[n, *S]`.
        images: `[B, channels, *S]`, of no label.
        pseudo: class probabilities of these, `[B, C, *S]`.
    """
    turn = torch.arange(len(images), device=images.device) % len(labels)
    first, labels = mixer.resized(labelled[turn], labels[turn])
    share = mixer.draw(labels)
    of_label = mixer.target_share(share)
    target = mix(one_hot(labels, pseudo.shape[1]), pseudo, of_label)
    return Mixed(mixer.images(first, images, share), target, of_label)


def mix(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Sum of `share` * `first` and (1 - `share`) * `second`."""
    share = share.to(first.dtype)
    return share * first + (1 - share) * second


def rescale(images: Tensor, labels: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Images `[B, channels, *S]` and labels `[B, *S]`, each sample enlarged by its factor (of `[B]`) about its centre.

    Linear for images, nearest for labels; what lies outside of the sample is 0 in both.
    """
    shape = labels.shape[1:]
    # The centres of the voxels lie at these places between the borders -1 and 1.
    axes = [(2 * torch.arange(side, device=labels.device) + 1) / side - 1 for side in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1).to(images.dtype)
    places = grid / factors.to(images.dtype).view(-1, *(1,) * (len(shape) + 1))
    named = labels.unsqueeze(1).to(images.dtype)
    moved = F.grid_sample(named, places, mode="nearest", padding_mode="zeros", align_corners=False)
    resampled = F.grid_sample(images, places, mode="bilinear", padding_mode="zeros", align_corners=False)
    return resampled, moved.squeeze(1).to(labels.dtype)


def box_mask(lower: Tensor, upper: Tensor, shape: Sequence[int]) -> Tensor:
    """Bool `[B, 1, *shape]`, True from `lower` to before `upper` `[B, dims]`."""
    inside = torch.ones(len(lower), *shape, dtype=torch.bool, device=lower.device)
    for axis, side in enumerate(shape):
        place = torch.arange(side, device=lower.device)
        along = (place >= lower[:, axis, None]) & (place < upper[:, axis, None])
        inside &= along.view(len(lower), *(side if k == axis else 1 for k in range(len(shape))))
    return inside.unsqueeze(1)


def corner_box(shape: Sequence[int], fraction: float, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes with sides int(fraction * side) at a uniform corner (BCP, arXiv:2305.00673), lower and upper `[B, dims]`.

    `uniform` `[B, dims]` are draws from [0, 1).
    """
    sides = [int(side * fraction) for side in shape]
    rooms = [full - side for full, side in zip(shape, sides, strict=True)]
    lower = torch.stack([_integer(uniform[:, axis], 0, room) for axis, room in enumerate(rooms)], 1)
    return lower, torch.stack([lower[:, axis] + side for axis, side in enumerate(sides)], 1)


def centre_box(shape: Sequence[int], shown: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes that hide about 1 - `shown` of the image, by the rule of CutMix in the 3D form of AD-MT.

    Sides int(side sqrt(1 - shown)); the centre is uniform in [side // 8, side), and the box is cut at the border.

    Args:
        shown: `[B]`, lambda of CutMix (arXiv:1905.04899).
        uniform: `[B, dims]`, draws from [0, 1).
    """
    lower, upper = [], []
    for axis, side in enumerate(shape):
        half = (side * torch.sqrt(1 - shown)).long() // 2
        centre = _integer(uniform[:, axis], side // 8, side)
        lower.append((centre - half).clamp(min=0))
        upper.append((centre + half).clamp(max=side))
    return torch.stack(lower, 1), torch.stack(upper, 1)


def column_box(shape: Sequence[int], shown: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """`centre_box` in the first two axes and all of the third, as PS-MT and TraCoCo cut volumes."""
    lower, upper = centre_box(shape, shown, uniform)
    if len(shape) == 3:
        lower[:, 2], upper[:, 2] = 0, shape[2]
    return lower, upper


def draw_column_boxes(images: Tensor, beta: float) -> Tensor:
    """One `column_box` for each of `images` `[B, channels, *S]`, shown shares from Beta; bool `[B, 1, *S]`."""
    uniform = torch.rand(len(images), images.ndim - 2, device=images.device)
    shape = tuple(images.shape[2:])
    return box_mask(*column_box(shape, draw_beta(beta, uniform[:, 0]), uniform), shape)


def _integer(uniform: Tensor, first: int, end: int) -> Tensor:
    """Whole numbers from `first` to before `end` (or `first`, if there are none) of draws from [0, 1)."""
    # A draw just below one may round up to one in float32.
    return (first + (uniform * (end - first)).long()).clamp(max=max(end - 1, first))


def draw_beta(shape: float, like: Tensor) -> Tensor:
    """A draw from Beta(`shape`, `shape`) for every element of `like`, made on the host."""
    both = torch.full(like.shape, shape)
    draws: Tensor = torch.distributions.Beta(both, both, validate_args=False).sample()
    return draws.to(like.device, non_blocking=True)
