"""The U-Net for users' own data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import nn

from semiseg.errors import raise_all
from semiseg.networks.base import Init, NetworkOptions, stage_taps
from semiseg.networks.blocks import (
    CONVOLUTION,
    GROUPS,
    SLOPE,
    ConvUnit,
    Normalisation,
    Upsampling,
    initialise,
    leaky,
    normalisation,
    same_padding,
    side_heads,
    upsample,
)
from semiseg.networks.encoder_decoder import EncoderDecoder

Count = tuple[int, ...]


class UNetOptions(NetworkOptions):
    """Options of the U-Net; `semiseg prepare` proposes `filters` and `strides`."""

    filters: tuple[int, ...] = Field((16, 32, 64, 128), min_length=2, description="channels per stage, fine to coarse")
    strides: tuple[tuple[int, ...], ...] | None = Field(
        None, description="per stage and axis; the first stage has stride 1; null: halve every axis at each stage"
    )
    kernels: Literal["full", "anisotropic"] = Field(
        "full", description="full: 3 along every axis; anisotropic: 1 along an axis in the stages before it is halved"
    )
    normalisation: Normalisation = "instance"
    dropout: float = Field(0.0, ge=0, lt=1, description="of whole channels, after the bottleneck and before the head")
    upsampling: Upsampling = Field("transposed", description="linear and nearest follow a convolution with kernel 1")
    init: Init = Field(
        "default",
        description="default: Kaiming for the leaky ReLU, zero biases; kaiming, xavier: normal, convolutions only",
    )
    deep_supervision: bool = Field(False, description="taps head1 ...: logits of the coarser decoder stages")


class UNet(EncoderDecoder):
    """U-Net with two convolutions per stage, strided convolutions down, transposed ones up, and joined skips.

    The layout of nnU-Net's plain convolutional network (Isensee et al., Nature Methods 2021): instance normalisation
    with scale and shift, leaky ReLU with slope 0.01, strides per axis. Dropout of whole channels (off by default)
    acts on the bottleneck and before the head.

    Raises:
        InputError: strides that do not fit the filters or the number of axes; filters that group normalisation cannot
            split.
    """

    Options = UNetOptions

    def __init__(self, options: UNetOptions, *, channels: int, classes: int, spatial_dims: int) -> None:
        super().__init__()
        filters = options.filters
        strides = options.strides or ((1,) * spatial_dims, *((2,) * spatial_dims,) * (len(filters) - 1))
        raise_all(_problems(options, strides, spatial_dims))
        self.p = options.dropout
        totals = [tuple(math.prod(axis) for axis in zip(*strides[: n + 1], strict=True)) for n in range(len(strides))]
        self.divisor = totals[-1]
        self.taps = stage_taps(filters, totals, classes, deep_supervision=options.deep_supervision)

        kernels = _kernels(strides, options.kernels)
        parts = _Parts(options.normalisation, spatial_dims)
        inputs = (channels, *filters)
        self.encoder = nn.ModuleList(
            parts.stage(inputs[stage], width, kernels[stage], strides[stage]) for stage, width in enumerate(filters)
        )
        coarse_to_fine = range(len(filters) - 2, -1, -1)
        self.up = nn.ModuleList(
            upsample(options.upsampling, filters[stage + 1], filters[stage], strides[stage + 1])
            for stage in coarse_to_fine
        )
        self.decoder = nn.ModuleList(
            parts.stage(2 * filters[stage], filters[stage], kernels[stage], (1,) * spatial_dims)
            for stage in coarse_to_fine
        )
        self.head = CONVOLUTION[spatial_dims](filters[0], classes, 1)
        self.heads = side_heads(filters if options.deep_supervision else (), classes, spatial_dims)
        _kaiming(self)
        initialise(self, options.init)


class _Parts:
    """Makes the building blocks of one U-Net."""

    def __init__(self, kind: Normalisation, dims: int) -> None:
        self.kind = kind
        self.dims = dims

    def unit(self, inputs: int, channels: int, kernel: Count, stride: Count) -> ConvUnit:
        # A bias in front of a normalisation has no effect.
        conv = CONVOLUTION[self.dims](
            inputs, channels, kernel, stride=stride, padding=same_padding(kernel), bias=self.kind == "none"
        )
        norm = normalisation(self.kind, channels, self.dims, affine_instance=True)
        return ConvUnit(conv, norm, leaky())

    def stage(self, inputs: int, channels: int, kernel: Count, stride: Count) -> nn.Sequential:
        return nn.Sequential(
            self.unit(inputs, channels, kernel, stride), self.unit(channels, channels, kernel, (1,) * self.dims)
        )


def _kernels(strides: Sequence[Count], kind: str) -> list[Count]:
    """Kernel per stage; see the option `kernels`. The coarsest stage always looks along every axis."""
    stages, dims = len(strides), len(strides[0])
    if kind == "full":
        return [(3,) * dims] * stages
    first_halved = [
        next((stage for stage in range(stages) if strides[stage][axis] > 1), stages) for axis in range(dims)
    ]
    return [tuple(3 if first <= stage + 1 else 1 for first in first_halved) for stage in range(stages)]


def _kaiming(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _problems(options: UNetOptions, strides: Sequence[Count], dims: int) -> list[str]:
    shown = [list(stage) for stage in strides]
    problems = []
    if len(strides) != len(options.filters):
        problems.append(
            f"network unet: expected one stride per stage, came {len(options.filters)} filters, {len(strides)} strides"
        )
    if any(len(stage) != dims or min(stage) < 1 for stage in strides):
        problems.append(f"network unet: strides: expected {dims} positive numbers per stage, came {shown}")
    elif set(strides[0]) != {1}:
        problems.append(f"network unet: strides: the first stage must have stride 1, came {shown[0]}")
    if min(options.filters) < 1:
        problems.append(f"network unet: filters must be positive, came {list(options.filters)}")
    elif options.normalisation == "group" and any(width % GROUPS for width in options.filters):
        problems.append(
            f"network unet: group normalisation has {GROUPS} groups, so filters must be multiples of {GROUPS}, "
            f"came {list(options.filters)}"
        )
    return problems
