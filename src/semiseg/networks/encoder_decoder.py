"""The forward pass of every encoder-decoder, with the places in which architectures differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from semiseg.networks.base import Network, Recorder
from semiseg.networks.blocks import drop_channels


class EncoderDecoder(Network):
    """Stages down, stages up with skips, and heads.

    Attributes:
        encoder: stages, fine to coarse.
        down: layers between them, if they are no part of the stages.
        pool: pooling between them, if any.
        up: layers before each decoder stage.
        decoder: stages, coarse to fine.
        head: makes logits of the last stage.
        heads: the same for the coarser ones, with deep supervision.
        p: dropout of whole channels after the bottleneck and before the head.
        adds_skips: whether features of the encoder are added, not joined.
        drops_inside: whether encoder stages have a dropout of their own, and are told whether it is on.
        divisible: whether several decoders can be put on the encoder.
    """

    encoder: nn.ModuleList
    up: nn.ModuleList
    decoder: nn.ModuleList
    head: nn.Module
    heads: nn.ModuleList
    p: float = 0.0
    adds_skips: ClassVar[bool] = False
    drops_inside: ClassVar[bool] = False
    divisible: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.down: nn.ModuleList | None = None
        self.pool: Callable[..., Tensor] | None = None

    def forward(
        self, x: Tensor, taps: tuple[str, ...] = (), *, dropout: bool | None = None
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        self.check_call(x, taps)
        active = self.training if dropout is None else dropout
        keep = Recorder(taps)
        skips: list[Tensor] = []
        for number, stage in enumerate(self.encoder):
            x = keep(f"enc{number + 1}", enter(self, stage, number, x, active))
            skips.append(x)
        x = keep("bottleneck", drop_channels(skips.pop(), self.p, active))
        for number, stage in enumerate(self.decoder):
            x = keep(f"sum{number + 1}", join(self, skips.pop(), self.rise(number, x)))
            if f"sumhead{number + 1}" in taps:
                keep(f"sumhead{number + 1}", self.heads[number](x))
            x = self.leave(number, keep(f"dec{number + 1}", stage(x)), active)
            if f"head{number + 1}" in taps:
                keep(f"head{number + 1}", self.heads[number](self.seen_by_head(number, x, active)))
        return keep.result(self.head(keep("embedding", drop_channels(x, self.p, active))))

    def rise(self, number: int, x: Tensor) -> Tensor:
        """Features of decoder stage `number` (coarse to fine, from 0) before the skip."""
        y: Tensor = self.up[number](x)
        return y

    def leave(self, number: int, x: Tensor, active: bool) -> Tensor:
        """Features of decoder stage `number` as the next stage and the heads receive them."""
        return x

    def seen_by_head(self, number: int, x: Tensor, active: bool) -> Tensor:
        """Features of decoder stage `number` as its head of deep supervision receives them."""
        return x


class Encoder(nn.Module):
    """The encoder of an architecture, for forms that put several decoders on it.

    Raises:
        TypeError: `net` is a network that cannot be taken apart.
    """

    def __init__(self, net: Network) -> None:
        super().__init__()
        net = divisible(net)
        self.stages, self.down, self.pool = net.encoder, net.down, net.pool
        self.p, self.drops_inside = net.p, net.drops_inside

    def forward(self, x: Tensor, keep: Recorder, active: bool, added: Sequence[Tensor] = ()) -> list[Tensor]:
        """Features of all stages, fine to coarse, to each of which one of `added` is added while there are any."""
        features = []
        for number, stage in enumerate(self.stages):
            x = enter(self, stage, number, x, active)
            if number < len(added):
                x = x + added[number]  # in their precision
            features.append(keep(f"enc{number + 1}", x))
        return features


class Decoder(nn.Module):
    """A decoder of an architecture with its head.

    Attributes:
        head: makes logits of the last stage.
        p: dropout of whole channels before the head, which is left to the caller.

    Raises:
        TypeError: `net` is a network that cannot be taken apart.
    """

    def __init__(self, net: Network) -> None:
        super().__init__()
        net = divisible(net)
        self.up, self.stages, self.head = net.up, net.decoder, net.head
        self.p, self.adds_skips = net.p, net.adds_skips

    def forward(self, features: Sequence[Tensor], keep: Recorder) -> Tensor:
        """Features of the last stage from those of the encoder, fine to coarse."""
        *skips, x = features
        for number in range(len(skips)):
            x = keep(f"dec{number + 1}", self.merge(number, self.rise(number, x), skips.pop()))
        return x

    def rise(self, number: int, x: Tensor) -> Tensor:
        """Features of decoder stage `number` (coarse to fine) before the skip."""
        y: Tensor = self.up[number](x)
        return y

    def merge(self, number: int, risen: Tensor, skip: Tensor) -> Tensor:
        """Features of the stage with the skip."""
        y: Tensor = self.stages[number](join(self, skip, risen))
        return y


def enter(owner: EncoderDecoder | Encoder, stage: nn.Module, number: int, x: Tensor, active: bool) -> Tensor:
    """Features of encoder stage `number` (fine to coarse, from 0) from those of the stage before."""
    if number and owner.down is not None:
        x = owner.down[number - 1](x)
    if number and owner.pool is not None:
        x = owner.pool(x, 2)
    y: Tensor = stage(x, active) if owner.drops_inside else stage(x)
    return y


def join(owner: EncoderDecoder | Decoder, skip: Tensor, risen: Tensor) -> Tensor:
    """Features of the encoder and those from below as a decoder stage receives them."""
    return risen + skip if owner.adds_skips else torch.cat((skip, risen), dim=1)


def divisible(net: Network) -> EncoderDecoder:
    """`net` as an architecture on whose encoder several decoders can be put.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(net, EncoderDecoder) or not net.divisible:
        raise TypeError(f"expected a V-Net or U-Net to take apart, came {type(net).__name__}")
    return net


def part_name(name: str, decoder: str) -> str:
    """The name of a weight of an architecture in a form whose parts are called `encoder` and `decoder`."""
    if name.startswith("encoder."):
        return f"encoder.stages.{name.removeprefix('encoder.')}"
    if name.startswith("down."):
        return f"encoder.{name}"
    inner = f"stages.{name.removeprefix('decoder.')}" if name.startswith("decoder.") else name
    return f"{decoder}.{inner}"
