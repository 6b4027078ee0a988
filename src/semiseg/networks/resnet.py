"""A residual encoder before the decoder of the run's architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.networks.base import Init, Network, NetworkOptions, Recorder, Tap
from semiseg.networks.blocks import CONVOLUTION, ConvUnit, drop_channels, initialise, normalisation, same_padding
from semiseg.networks.encoder_decoder import Decoder, part_name
from semiseg.networks.import_weights import import_official

STEM = 7
"""Kernel of the first convolution."""


class ResNetOptions(NetworkOptions):
    """Options of the form, beside those of the architecture whose decoder it has."""

    blocks: tuple[int, ...] = Field(
        (3, 4, 6, 3), min_length=1, description="residual blocks per stage after the first; the last for all further"
    )
    init: Init = Field("default", description="initialisation of the encoder's convolutions, and of the decoder's")


class ResNet(Network):
    """A ResNet encoder (He et al., CVPR 2016) with the widths and strides of the run's architecture, and its decoder.

    As in WYC-321/MCF, whose 3D ResNet-34 joins the V-Net's decoder: no pooling after the first convolution, which keeps
    full resolution; basic blocks of two convolutions; no dropout but the one before the head. Taps are the stages.

    Args:
        options: of this form.
        build: makes a V-Net or U-Net; keywords override its options.

    Raises:
        TypeError: `build` makes another network.
    """

    Options = ResNetOptions

    def __init__(self, options: ResNetOptions, build: Callable[..., Network]) -> None:
        super().__init__()
        net = build(init=options.init)
        self.taps = {name: tap for name, tap in net.taps.items() if name.startswith(("enc", "dec"))}
        self.divisor = net.divisor
        stages = [tap for name, tap in self.taps.items() if name.startswith("enc")]
        self.encoder = _Encoder(_channels(net), stages, options.blocks)
        initialise(self.encoder, options.init)
        self.decoder = Decoder(net)

    def forward(
        self, x: Tensor, taps: tuple[str, ...] = (), *, dropout: bool | None = None
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        self.check_call(x, taps)
        keep = Recorder(taps)
        *skips, x = (keep(f"enc{number}", feature) for number, feature in enumerate(self.encoder(x), 1))
        for number, skip in enumerate(reversed(skips)):
            x = keep(f"dec{number + 1}", self.decoder.merge(number, self.decoder.rise(number, x), skip))
        active = self.training if dropout is None else dropout
        return keep.result(self.decoder.head(drop_channels(x, self.decoder.p, active)))

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` with this network's names; of another network's weights only the decoder's are taken."""
        if any(name.startswith("encoder.stem.") for name in state):
            return dict(state)
        named = {part_name(name, "decoder"): value for name, value in import_official(state).items()}
        encoder = {name: value for name, value in self.state_dict().items() if name.startswith("encoder.")}
        return {name: value for name, value in named.items() if name.startswith("decoder.")} | encoder


class _Encoder(nn.Module):
    def __init__(self, channels: int, stages: Sequence[Tap], blocks: Sequence[int]) -> None:
        super().__init__()
        first, dims = stages[0], len(stages[0].stride)
        kernel = (STEM,) * dims
        self.stem = _unit(
            CONVOLUTION[dims](channels, first.channels, kernel, first.stride, same_padding(kernel), bias=False),
            first.channels,
            dims,
        )
        self.stages = nn.ModuleList()
        for number, (fine, coarse) in enumerate(pairwise(stages)):
            stride = tuple(b // a for a, b in zip(fine.stride, coarse.stride, strict=True))
            count = blocks[min(number, len(blocks) - 1)]
            inner = [_Block(coarse.channels, coarse.channels, (1,) * dims) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(_Block(fine.channels, coarse.channels, stride), *inner))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [F.relu(self.stem(x))]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


class _Block(nn.Module):
    """Two convolutions whose sum with the input, brought to its shape where it must be, is rectified."""

    def __init__(self, inputs: int, channels: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        dims = len(stride)

        def unit(inputs: int, kernel: int, stride: tuple[int, ...]) -> ConvUnit:
            sides = (kernel,) * dims
            conv = CONVOLUTION[dims](inputs, channels, sides, stride, same_padding(sides), bias=False)
            return _unit(conv, channels, dims)

        self.first, self.second = unit(inputs, 3, stride), unit(channels, 3, (1,) * dims)
        self.shortcut = unit(inputs, 1, stride) if inputs != channels or set(stride) != {1} else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


def _unit(conv: nn.Module, channels: int, dims: int) -> ConvUnit:
    """Convolution and batch normalisation."""
    return ConvUnit(conv, normalisation("batch", channels, dims, affine_instance=False), nn.Identity())


def _channels(net: Network) -> int:
    """Image channels of an architecture."""
    first: Any = next(p for p in net.encoder.parameters() if p.ndim > 2)  # type: ignore[union-attr]
    return int(first.shape[1])
