"""Architectures taken apart, so that forms can put several decoders on one encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semiseg.networks.base import Network
from semiseg.networks.unet import UNet
from semiseg.networks.unet2d import UNet2D
from semiseg.networks.vnet import VNet


class Encoder(nn.Module):
    """Encoder of a V-Net or U-Net; some have their down-sampling beside the stages.

    Attributes:
        p: dropout of whole channels after the bottleneck, which is left to the caller.

    Raises:
        TypeError: `net` is another network.
    """

    def __init__(self, net: Network) -> None:
        super().__init__()
        if not isinstance(net, VNet | UNet | UNet2D):
            raise TypeError(f"expected a V-Net or U-Net to take apart, came {type(net).__name__}")
        self.stages = net.encoder
        self.down = net.down if isinstance(net, VNet) else None
        self.pool = net.pool if isinstance(net, UNet2D) else None
        self.p = _p(net)
        self.own_dropout = isinstance(net, UNet2D)

    def forward(self, number: int, x: Tensor, active: bool = False) -> Tensor:
        """Features of stage `number` from those of the stage before; `active`: with dropout inside of the stage."""
        if number and self.down is not None:
            x = self.down[number - 1](x)
        if number and self.pool is not None:
            x = self.pool(x, 2)
        y: Tensor = self.stages[number](x, *((active,) if self.own_dropout else ()))
        return y


class Decoder(nn.Module):
    """Decoder of a V-Net, which adds its skips, or of a U-Net, which joins them.

    Attributes:
        head: makes logits of the last stage.
        p: dropout of whole channels before the head, which is left to the caller.
    """

    def __init__(self, net: Network) -> None:
        super().__init__()
        assert isinstance(net, VNet | UNet | UNet2D)
        self.up, self.stages, self.head = net.up, net.decoder, net.head
        self.adds = isinstance(net, VNet)
        self.p = _p(net)
        # Stages of the papers' U-Net ask, but those of its decoder have no dropout.
        self.flags = (False,) if isinstance(net, UNet2D) else ()

    def rise(self, number: int, x: Tensor) -> Tensor:
        """Features of decoder stage `number` (coarse to fine) before the skip."""
        y: Tensor = self.up[number](x)
        return y

    def merge(self, number: int, risen: Tensor, skip: Tensor) -> Tensor:
        """Features of the stage with the skip."""
        y: Tensor = self.stages[number](risen + skip if self.adds else torch.cat((skip, risen), dim=1), *self.flags)
        return y


def part_name(name: str, decoder: str) -> str:
    """The name of a weight of an architecture in a form whose parts are called `encoder` and `decoder`."""
    if name.startswith("encoder."):
        return f"encoder.stages.{name.removeprefix('encoder.')}"
    if name.startswith("down."):
        return f"encoder.{name}"
    inner = f"stages.{name.removeprefix('decoder.')}" if name.startswith("decoder.") else name
    return f"{decoder}.{inner}"


def _p(net: VNet | UNet | UNet2D) -> float:
    return 0.0 if isinstance(net, UNet2D) else net.p
