"""The U-Net of the ACDC papers."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.networks.base import Init, NetworkOptions, stage_rates, stage_taps
from semiseg.networks.blocks import (
    CONVOLUTION,
    ConvUnit,
    Upsampling,
    initialise,
    leaky,
    normalisation,
    side_heads,
    upsample,
)
from semiseg.networks.encoder_decoder import EncoderDecoder
from semiseg.networks.perturbations import perturbed


class UNet2DOptions(NetworkOptions):
    """Options of the papers' U-Net; the defaults are those of the ACDC benchmarks."""

    filters: tuple[int, ...] = Field((16, 32, 64, 128, 256), min_length=2, description="channels per stage")
    dropout: float | tuple[float, ...] = Field(
        (0.05, 0.1, 0.2, 0.3, 0.5),
        description="of single activations between the two convolutions of an encoder stage: one number, or one per "
        "stage",
    )
    upsampling: Upsampling = Field("linear", description="linear and nearest follow a convolution with kernel 1")
    init: Init = Field("default", description="default: PyTorch's; kaiming, xavier: normal, convolutions only")
    deep_supervision: bool = Field(False, description="taps head1 ...: logits of the coarser decoder stages")
    side_kernel: Literal[1, 3] = Field(1, description="kernel of these heads; URPC has 3")
    perturb_sides: bool = Field(
        False,
        description="in training these heads see features with dropout, attended parts hidden, or noise, as in URPC",
    )


class UNet2D(EncoderDecoder):
    """U-Net with max-pooling, batch normalisation, dropout inside of the encoder stages, and linear up-sampling.

    The backbone of SSL4MIS, BCP, SS-Net and CML on ACDC: five stages of two convolutions, leaky ReLU with slope 0.01,
    a 1x1 convolution *before* each up-sampling (corners aligned), skips joined in front, and a 3x3 convolution as head.
    Sides must be multiples of 16. With `spatial_dims=3` the same layers work on volumes. Source: HiLab-git/SSL4MIS.

    Raises:
        InputError: dropout rates out of bounds or not one per stage; filters that are not positive.
    """

    Options = UNet2DOptions
    drops_inside = True

    def __init__(self, options: UNet2DOptions, *, channels: int, classes: int, spatial_dims: int) -> None:
        super().__init__()
        filters, rates = options.filters, stage_rates(options.dropout, len(options.filters), options.filters, "unet2d")
        strides = [(2**stage,) * spatial_dims for stage in range(len(filters))]
        self.divisor = strides[-1]
        self.taps = stage_taps(filters, strides, classes, deep_supervision=options.deep_supervision)
        self.pool = F.max_pool2d if spatial_dims == 2 else F.max_pool3d

        self.encoder = nn.ModuleList(
            _Block(inputs, width, rate, spatial_dims)
            for (inputs, width), rate in zip(pairwise((channels, *filters)), rates, strict=True)
        )
        self.up = nn.ModuleList(
            upsample(options.upsampling, coarse, fine, (2,) * spatial_dims) for coarse, fine in pairwise(filters[::-1])
        )
        self.decoder = nn.ModuleList(_Block(2 * width, width, 0.0, spatial_dims) for width in filters[-2::-1])
        self.head = CONVOLUTION[spatial_dims](filters[0], classes, 3, padding=1)
        sides = filters if options.deep_supervision else ()
        self.heads = side_heads(sides, classes, spatial_dims, kernel=options.side_kernel)
        self.perturb = options.perturb_sides
        initialise(self, options.init)

    def seen_by_head(self, number: int, x: Tensor, active: bool) -> Tensor:
        return perturbed(x, number) if self.perturb and active else x


class _Block(nn.Module):
    """Two units of convolution, batch normalisation and leaky ReLU, with dropout between them."""

    def __init__(self, inputs: int, channels: int, p: float, dims: int) -> None:
        super().__init__()
        self.p = p
        self.units = nn.ModuleList(
            ConvUnit(
                CONVOLUTION[dims](width, channels, 3, padding=1),
                normalisation("batch", channels, dims, affine_instance=True),
                leaky(),
            )
            for width in (inputs, channels)
        )

    def forward(self, x: Tensor, active: bool = False) -> Tensor:
        first, second = self.units
        y: Tensor = second(F.dropout(first(x), self.p, active and self.p > 0))
        return y
