"""Convolutions whose kernels depend on the image, and networks made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.networks.base import Network, NetworkOptions
from semiseg.networks.blocks import CONVOLUTION, ConvUnit, normalisation

KERNELS, REDUCTION = 4, 16
TEMPERATURE = {2: 30.0, 3: 34.0}
"""Of the softmax over the kernels, by the number of axes, as published."""


class DynamicNetOptions(NetworkOptions):
    """Options of the form, beside those of the architecture that it is made of."""

    temperature: float | None = Field(
        None, gt=0, description="of the softmax over kernels; null: 30 for slices, 34 for volumes"
    )


class DynamicNet(Network):
    """The run's architecture with a gated dynamic convolution for every convolution that keeps the resolution.

    The first stage of the encoder, what changes the resolution, and the heads stay as they are. Source: ASE-Net (Lei et
    al., IEEE TMI 2022), whose "dynamic V-Net" this is.

    Args:
        options: of this form.
        build: makes a V-Net or U-Net.
    """

    Options = DynamicNetOptions

    def __init__(self, options: DynamicNetOptions, build: Callable[..., Network]) -> None:
        super().__init__()
        self.net = build()
        self.taps, self.divisor = self.net.taps, self.net.divisor
        temperature = options.temperature or TEMPERATURE[len(self.divisor)]
        stages: Any = self.net
        for stage in (*list(stages.encoder)[1:], *stages.decoder):
            for unit in [part for part in stage.modules() if isinstance(part, ConvUnit)]:
                conv: Any = unit.conv
                if {*conv.stride} == {1} and {*conv.kernel_size} != {1}:
                    kernel = tuple(conv.kernel_size)
                    unit.conv = GatedDynamicConv(conv.in_channels, conv.out_channels, kernel, temperature=temperature)

    def forward(
        self, x: Tensor, taps: tuple[str, ...] = (), *, dropout: bool | None = None
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        return self.net(x, taps, dropout=dropout)

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` as it is: published weights of plain networks have no place in dynamic convolutions."""
        return dict(state)


class GatedDynamicConv(nn.Sequential):
    """A gate per voxel, then a dynamic convolution (the "bidirectional attention" of ASE-Net)."""

    def __init__(
        self, channels: int, outputs: int, kernel: tuple[int, ...], *, stride: int = 1, temperature: float | None = None
    ) -> None:
        dims = len(kernel)
        degrees = temperature or TEMPERATURE[dims]
        super().__init__(_Gate(channels, dims), DynamicConv(channels, outputs, kernel, stride=stride, degrees=degrees))


class DynamicConv(nn.Module):
    """A depthwise convolution by a mean of kernels that is each sample's own, then one with kernel 1.

    Weights of the kernels are a softmax of what two linear layers make of the mean feature. The first one begins with
    pairs of opposite rows, each drawn as published. Source: ASE-Net.

    Args:
        channels, outputs: of the features before and after.
        kernel: odd sides.
        stride: of the depthwise convolution.
        degrees: temperature of the softmax.
    """

    def __init__(self, channels: int, outputs: int, kernel: tuple[int, ...], *, stride: int, degrees: float) -> None:
        super().__init__()
        self.stride, self.degrees = stride, degrees
        self.padding = [side // 2 for side in kernel]
        self.weight = nn.Parameter(torch.empty(KERNELS, channels, 1, *kernel))
        if len(kernel) == 3:
            nn.init.normal_(self.weight)
        else:
            for each in self.weight:
                nn.init.kaiming_uniform_(each)
        hidden = channels // 4 + 1
        self.reduce, self.score = nn.Linear(channels, hidden, bias=False), nn.Linear(hidden, KERNELS, bias=False)
        with torch.no_grad():
            # Opposite pairs: one of each is above zero for any image, or few of them could all be dead from the start.
            self.reduce.weight[hidden // 2 : hidden // 2 * 2] = -self.reduce.weight[: hidden // 2]
        self.pointwise = CONVOLUTION[len(kernel)](channels, outputs, 1)

    def attention(self, x: Tensor) -> Tensor:
        """Weights of the kernels for each sample of `x` `[B, channels, *S]`, `[B, kernels]`, which sum to one."""
        scores = self.score(torch.relu(self.reduce(x.flatten(2).mean(2))))
        return torch.softmax(scores.float() / self.degrees, 1)

    def forward(self, x: Tensor) -> Tensor:
        samples, channels = x.shape[:2]
        share = self.attention(x)
        # In full precision: half of it loses kernels that differ little, and some CPU kernels are wrong in bf16.
        with torch.autocast(x.device.type, enabled=False):
            kernels = (share @ self.weight.flatten(1)).view(samples * channels, *self.weight.shape[2:])
            convolve = F.conv2d if x.ndim == 4 else F.conv3d
            rows = x.to(kernels.dtype).reshape(1, samples * channels, *x.shape[2:])
            y = convolve(rows, kernels, None, self.stride, self.padding, groups=samples * channels)
        made: Tensor = self.pointwise(y.view(samples, channels, *y.shape[2:]))
        return made


class _Gate(nn.Module):
    """Features times a number between 0 and 1 for every voxel."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        hidden, conv = max(channels // REDUCTION, 1), CONVOLUTION[dims]
        self.reduce, self.score = conv(channels, hidden, 1), conv(hidden, 1, 1)
        self.norm = normalisation("batch", 1, dims, affine_instance=False)

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = x * torch.sigmoid(self.norm(self.score(self.reduce(x))))
        return gated
