"""An auto-encoder of segmentations, whose code tells what is plausible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from semiseg.ingredients.levels import one_hot
from semiseg.networks.base import Tap
from semiseg.networks.blocks import CONVOLUTION, normalisation

WIDTH = 16
"""Channels at full resolution; every stage doubles them."""
LEAST_NOISE, MORE_NOISE = 0.05, 0.2
"""Share of uniform probabilities in the labels that it is trained on: the first, and up to so much more."""


class AutoEncoder(nn.Module):
    """Residual encoder and mirrored decoder without skips (weihuang-cs/IC4SSL), halving sides as a network does.

    Args:
        classes: channels of a segmentation.
        taps: of that network; the strides of its encoder are taken.
    """

    def __init__(self, classes: int, taps: Mapping[str, Tap]) -> None:
        super().__init__()
        strides = [tap.stride for name, tap in taps.items() if name.startswith("enc")]
        factors = [tuple(b // a for a, b in zip(*pair, strict=True)) for pair in pairwise(strides)]
        dims, widths = len(strides[0]), [WIDTH * 2**k for k in range(len(strides))]
        conv = CONVOLUTION[dims]
        self.stem = _Unit(classes, WIDTH, dims)
        self.down = nn.ModuleList(_Down(*w, f) for w, f in zip(pairwise(widths), factors, strict=True))
        self.up = nn.ModuleList(_Up(w, w // 2, f) for w, f in zip(widths[:0:-1], factors[::-1], strict=True))
        self.head = conv(WIDTH, classes, 3, padding=1, bias=False)

    def encode(self, p: Tensor) -> Tensor:
        """The code of probabilities or one-hot labels `[B, C, *S]`."""
        x = F.relu(self.stem(p))
        for block in self.down:
            x = block(x)
        return x

    def forward(self, p: Tensor) -> Tensor:
        """Logits of the segmentation that the code stands for."""
        x = self.encode(p)
        for block in self.up:
            x = block(x)
        logits: Tensor = self.head(x)
        return logits


def noisy_one_hot(labels: Tensor, classes: int, uniform: Tensor) -> Tensor:
    """Labels `[B, *S]` as probabilities `[B, C, *S]`, mixed with equal ones by `uniform` draws `[B, 1, *S]`."""
    share = LEAST_NOISE + MORE_NOISE * uniform
    return (1 - share) * one_hot(labels, classes, uniform.dtype) + share / classes


class _Unit(nn.Module):
    """Convolution and batch normalisation."""

    def __init__(
        self,
        inputs: int,
        channels: int,
        dims: int,
        kernel: int = 3,
        stride: Sequence[int] | int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv = CONVOLUTION[dims](inputs, channels, kernel, stride, padding=kernel // 2, bias=bias)
        self.norm = normalisation("batch", channels, dims, affine_instance=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y


class _Down(nn.Module):
    def __init__(self, inputs: int, channels: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        dims = len(stride)
        self.first, self.second = _Unit(inputs, channels, dims, stride=stride), _Unit(channels, channels, dims)
        self.shortcut = _Unit(inputs, channels, dims, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class _Up(nn.Module):
    def __init__(self, inputs: int, channels: int, factor: tuple[int, ...]) -> None:
        super().__init__()
        dims = len(factor)
        self.factor = [float(side) for side in factor]
        self.first, self.second = _Unit(inputs, inputs, dims), _Unit(inputs, channels, dims, bias=True)
        self.shortcut = _Unit(inputs, channels, dims, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self._enlarged(F.relu(self.first(x)))) + self.shortcut(self._enlarged(x)))

    def _enlarged(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.factor, mode="nearest")
