"""The V-Net of the left-atrium and pancreas papers."""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.errors import raise_all
from semiseg.networks.base import Init, NetworkOptions, stage_taps
from semiseg.networks.blocks import (
    CONVOLUTION,
    GROUPS,
    TRANSPOSED,
    ConvUnit,
    LinearUpsample,
    NearestUpsample,
    Normalisation,
    Upsampling,
    initialise,
    normalisation,
    side_heads,
)
from semiseg.networks.encoder_decoder import EncoderDecoder

UNITS = (1, 2, 3, 3, 3)
"""Convolution units per encoder stage; a decoder stage has as many as the encoder stage of its resolution."""


class VNetOptions(NetworkOptions):
    """Options of the V-Net; the defaults are those of the left-atrium papers."""

    filters: int = Field(16, ge=1, description="channels at full resolution; every halving doubles them")
    normalisation: Normalisation = "batch"
    dropout: float = Field(0.5, ge=0, lt=1, description="of whole channels, after the bottleneck and before the head")
    residual: bool = Field(False, description="add a stage's input to its last unit before the ReLU")
    upsampling: Upsampling = Field("transposed", description="linear and nearest are followed by a 3x3x3 convolution")
    init: Init = Field("default", description="default: PyTorch's; kaiming, xavier: normal, convolutions only")
    deep_supervision: bool = Field(
        False, description="taps head1 ... and sumhead1 ...: logits of the coarser decoder stages"
    )


class VNet(EncoderDecoder):
    """Encoder-decoder of plain 3x3x3 convolutions with strided down-sampling and *added* skip connections.

    This is the network that UA-MT, SASSNet, DTC, MC-Net, BCP, CML, DuCiSC, LeFeD (16 filters) and DHC, MICD (32) call
    V-Net. It is not the one of Milletari et al. (3DV 2016): no residual sums by default, ReLU, no 5x5x5 kernels.
    Five stages at strides 1, 2, 4, 8, 16; sides must be multiples of 16. Dropout of whole channels acts on the
    bottleneck and before the head. Source: yulequan/UA-MT, xmed-lab/DHC (same layers).

    Further taps: `sum1 ...`, what enters `dec1 ...` (up-sampled features plus skip); with deep supervision
    `sumhead1 ...`, the heads on these sums, where ShanghaiTech-IMPACT/DuCiSC has them. One network uses its heads in
    one of the two places.

    Raises:
        InputError: filters that group normalisation cannot split, or channels that `residual` cannot add.
    """

    Options = VNetOptions
    adds_skips = True

    def __init__(self, options: VNetOptions, *, channels: int, classes: int, spatial_dims: int) -> None:
        super().__init__()
        raise_all(_problems(options, channels))
        self.p = options.dropout
        widths = tuple(options.filters * 2**stage for stage in range(len(UNITS)))
        strides = [(2**stage,) * spatial_dims for stage in range(len(UNITS))]
        self.divisor = strides[-1]
        self.taps = stage_taps(widths, strides, classes, deep_supervision=options.deep_supervision)
        # A sum has the shape of the stage that it enters, so that one head fits both.
        before = {"dec": "sum", "head": "sumhead"}
        self.taps |= {
            before[kind] + name.removeprefix(kind): tap
            for kind in before
            for name, tap in self.taps.items()
            if name.startswith(kind)
        }

        parts = _Parts(options, spatial_dims)
        self.encoder = nn.ModuleList(
            parts.stage(channels if stage == 0 else width, width, units)
            for stage, (width, units) in enumerate(zip(widths, UNITS, strict=True))
        )
        self.down = nn.ModuleList(parts.down(fine, coarse) for fine, coarse in pairwise(widths))
        self.up = nn.ModuleList(parts.up(coarse, fine) for coarse, fine in pairwise(widths[::-1]))
        self.decoder = nn.ModuleList(
            parts.stage(width, width, units) for width, units in zip(widths[-2::-1], UNITS[-2::-1], strict=True)
        )
        self.head = CONVOLUTION[spatial_dims](widths[0], classes, 1)
        self.heads = side_heads(widths if options.deep_supervision else (), classes, spatial_dims)
        initialise(self, options.init)


class _Stage(nn.Sequential):
    """Units in a row; with `residual` the input is added to the last one, which then has no activation of its own."""

    def __init__(self, units: list[ConvUnit], residual: bool) -> None:
        super().__init__(*units)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for unit in self:
            y = unit(y)
        return F.relu(y + x) if self.residual else y


class _Parts:
    """Makes the building blocks of one V-Net."""

    def __init__(self, options: VNetOptions, dims: int) -> None:
        self.options = options
        self.dims = dims

    def unit(
        self, conv: nn.Module, channels: int, *, active: bool = True, resample: nn.Module | None = None
    ) -> ConvUnit:
        norm = normalisation(self.options.normalisation, channels, self.dims, affine_instance=False)
        return ConvUnit(conv, norm, nn.ReLU(inplace=True) if active else nn.Identity(), resample)

    def stage(self, inputs: int, channels: int, units: int) -> _Stage:
        conv, residual = CONVOLUTION[self.dims], self.options.residual
        return _Stage(
            [
                self.unit(
                    conv(channels if number else inputs, channels, 3, padding=1),
                    channels,
                    active=not (residual and number == units - 1),
                )
                for number in range(units)
            ],
            residual,
        )

    def down(self, inputs: int, channels: int) -> ConvUnit:
        return self.unit(CONVOLUTION[self.dims](inputs, channels, 2, stride=2), channels)

    def up(self, inputs: int, channels: int) -> ConvUnit:
        if self.options.upsampling == "transposed":
            return self.unit(TRANSPOSED[self.dims](inputs, channels, 2, stride=2), channels)
        resample = LinearUpsample(self.dims) if self.options.upsampling == "linear" else NearestUpsample()
        return self.unit(CONVOLUTION[self.dims](inputs, channels, 3, padding=1), channels, resample=resample)


def _problems(options: VNetOptions, channels: int) -> list[str]:
    problems = []
    if options.normalisation == "group" and options.filters % GROUPS:
        problems.append(
            f"network vnet: group normalisation has {GROUPS} groups, so filters must be a multiple of {GROUPS}, "
            f"came {options.filters}"
        )
    if options.residual and channels not in (1, options.filters):
        problems.append(
            f"network vnet: with residual the first stage adds its input, which needs 1 or {options.filters} image "
            f"channels, came {channels}: set residual to false"
        )
    return problems
