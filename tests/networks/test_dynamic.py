"""Networks with kernels that depend on the image."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from semiseg.errors import InputError
from semiseg.methods.asenet.discriminator import DynamicDiscriminator
from semiseg.networks import build_network
from semiseg.networks.dynamic import DynamicConv, GatedDynamicConv

OPTIONS: dict[str, dict[str, Any]] = {
    "vnet": {"filters": 2},
    "unet": {"filters": (4, 6, 8)},
    "unet2d": {"filters": (4, 6, 8), "dropout": 0.0},
}


@pytest.mark.parametrize(("name", "dims"), [("vnet", 3), ("vnet", 2), ("unet", 2), ("unet", 3), ("unet2d", 2)])
def test_all_stages_but_the_first_are_dynamic(name: str, dims: int) -> None:
    every = {"channels": 1, "classes": 3, "spatial_dims": dims, **OPTIONS[name]}
    net: Any = build_network(name, network="dynamic", **every).eval()
    x = torch.randn(2, 1, *(16,) * dims)
    assert net(x).shape == (2, 3, *(16,) * dims)
    dynamic = [key for key, part in net.named_modules() if isinstance(part, GatedDynamicConv)]
    assert dynamic
    assert not [key for key in dynamic if key.startswith("net.encoder.0.")]
    with torch.no_grad():
        alone = torch.cat([net(x[:1]), net(x[1:])])
    torch.testing.assert_close(net(x), alone, msg="a sample's kernels are its own")


def test_an_architecture_that_cannot_be_taken_apart_is_refused() -> None:
    with pytest.raises(InputError, match="takes encoder and decoder apart"):
        build_network("unet3d", network="dynamic", channels=1, classes=2, spatial_dims=3)


@pytest.mark.parametrize("sides", [(8, 8), (33, 20), (8, 8, 8), (4, 20, 16)])
def test_discriminators_take_any_patch(sides: tuple[int, ...]) -> None:
    net = DynamicDiscriminator(3, 2, len(sides), 4).eval()
    assert net(torch.rand(2, 3, *sides), torch.randn(2, 2, *sides)).shape == (2, 2)


@pytest.mark.parametrize("channels", [4, 8, 16])
def test_no_attention_is_dead_from_the_start(channels: int) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        layer = DynamicConv(channels, 2, (3, 3), stride=1, degrees=30.0)
        layer(torch.rand(2, channels, 6, 6)).square().sum().backward()
        assert layer.reduce.weight.grad is not None
        assert layer.reduce.weight.grad.any()
