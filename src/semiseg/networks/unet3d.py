"""The 3D U-Net of URPC and of the pyramid methods of SSL4MIS and DHC."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.networks.base import Init, NetworkOptions, stage_rates, stage_taps
from semiseg.networks.blocks import CONVOLUTION, ConvUnit, drop_channels, initialise, normalisation, side_heads
from semiseg.networks.encoder_decoder import EncoderDecoder

_LINEAR = {2: "bilinear", 3: "trilinear"}
_STAGE = re.compile(r"(?:conv(?P<down>\d+)|(?P<centre>center)|up_concat(?P<up>\d+)\.conv)\.conv(?P<unit>[12])\.0\.(.+)")
_HEAD = re.compile(r"dsv(?P<number>\d+)(?:\.dsv\.0)?\.(?P<leaf>weight|bias)")


class UNet3DOptions(NetworkOptions):
    """Options of this U-Net; the defaults are those of the published runs."""

    filters: tuple[int, ...] = Field((16, 32, 64, 128, 256), min_length=2, description="channels per stage")
    dropout: float | tuple[float, ...] = Field(
        (0.5, 0.3, 0.2, 0.1),
        description="of whole channels after each decoder stage: one number, or one per stage, coarse to fine",
    )
    init: Init = Field("default", description="default and kaiming: normal by fan-in; xavier: normal")
    deep_supervision: bool = Field(False, description="taps head1 ...: logits of the coarser decoder stages")


class UNet3D(EncoderDecoder):
    """U-Net with max-pooling, instance normalisation without scale, and linear up-sampling without convolutions.

    Stages of two 3x3x3 convolutions with ReLU; the up-sampled features (corners not aligned) join the skip as they
    are. Whole channels are dropped after each decoder stage, before head and next stage alike. Sides must be multiples
    of 2^(stages - 1), and in training the coarsest stage needs more than one voxel. With `spatial_dims=2` the same
    layers work on slices. Source: HiLab-git/SSL4MIS, xmed-lab/DHC; their weights load through `import_weights`.

    Raises:
        InputError: dropout rates out of bounds or not one per decoder stage; filters that are not positive.
    """

    Options = UNet3DOptions
    divisible = False

    def __init__(self, options: UNet3DOptions, *, channels: int, classes: int, spatial_dims: int) -> None:
        super().__init__()
        filters = options.filters
        self.rates = stage_rates(options.dropout, len(filters) - 1, filters, "unet3d", "decoder stage")
        strides = [(2**stage,) * spatial_dims for stage in range(len(filters))]
        self.divisor = strides[-1]
        self.taps = stage_taps(filters, strides, classes, deep_supervision=options.deep_supervision)
        self.pool = F.max_pool2d if spatial_dims == 2 else F.max_pool3d
        self.mode = _LINEAR[spatial_dims]
        self.encoder = nn.ModuleList(
            _stage(inputs, width, spatial_dims) for inputs, width in pairwise((channels, *filters))
        )
        self.decoder = nn.ModuleList(
            _stage(fine + coarse, fine, spatial_dims) for coarse, fine in pairwise(filters[::-1])
        )
        conv = CONVOLUTION[spatial_dims]
        self.head = conv(filters[0], classes, 1)
        self.heads = side_heads(filters if options.deep_supervision else (), classes, spatial_dims)
        initialise(self, "kaiming" if options.init == "default" else options.init)

    def rise(self, number: int, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode=self.mode)

    def leave(self, number: int, x: Tensor, active: bool) -> Tensor:
        return drop_channels(x, self.rates[number], active)

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` of the official code with this network's names; other names stay."""
        return {_own_name(name.removeprefix("module."), len(self.decoder)): value for name, value in state.items()}


def _own_name(name: str, stages: int) -> str:
    if head := _HEAD.fullmatch(name):
        number = stages - int(head["number"])
        return f"head.{head['leaf']}" if number == stages - 1 else f"heads.{number}.{head['leaf']}"
    found = _STAGE.fullmatch(name)
    if found is None:
        return name
    unit = f"{int(found['unit']) - 1}.conv.{found[5]}"
    if found["up"]:
        return f"decoder.{stages - int(found['up'])}.{unit}"
    return f"encoder.{stages if found['centre'] else int(found['down']) - 1}.{unit}"


def _stage(inputs: int, channels: int, dims: int) -> nn.Sequential:
    return nn.Sequential(
        *(
            ConvUnit(
                CONVOLUTION[dims](width, channels, 3, padding=1),
                normalisation("instance", channels, dims, affine_instance=False),
                nn.ReLU(inplace=True),
            )
            for width in (inputs, channels)
        )
    )
