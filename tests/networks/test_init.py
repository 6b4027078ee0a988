"""How weights are drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from golden_files import golden
from semiseg.networks import NETWORKS, build_network
from semiseg.networks.base import Network


def vnet(init: str, classes: int = 2) -> Network:
    torch.manual_seed(0)
    return build_network("vnet", channels=1, classes=classes, spatial_dims=3, filters=8, init=init)


def std(weight: Tensor) -> float:
    return weight.std().item()


@pytest.mark.parametrize("init", ["kaiming", "xavier"])
def test_spread_of_the_official_draws(init: str) -> None:
    file = golden("supervised")
    net = vnet(init, int(file["num_classes"]))
    first, head = net.get_submodule("decoder.0.0.conv"), net.get_submodule("head")
    np.testing.assert_allclose(std(first.weight), file[f"init_{init}_std_block_six_conv0"], rtol=0.03)  # type: ignore[arg-type]
    np.testing.assert_allclose(std(head.weight), file[f"init_{init}_std_out_conv"], rtol=0.3)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("init", ["kaiming", "xavier"])
def test_spread_of_convolutions_by_formula(name: str, init: str) -> None:
    net = build_network(name, channels=1, classes=2, spatial_dims=3, init=init)
    checked = 0
    for module in net.modules():
        if isinstance(module, nn.Conv3d) and module.weight.numel() > 2000:
            volume = math.prod(module.kernel_size)
            fans = module.in_channels * volume + (module.out_channels * volume if init == "xavier" else 0)
            assert std(module.weight) == pytest.approx(math.sqrt(2 / fans), rel=0.08)
            checked += 1
    assert checked >= 10


def test_only_convolutions_and_normalisations_are_redrawn() -> None:
    default, kaiming = vnet("default").state_dict(), vnet("kaiming").state_dict()
    changed = {name for name in default if not torch.equal(default[name], kaiming[name])}
    convolutions = {
        f"{name}.weight" for name, module in vnet("default").named_modules() if isinstance(module, nn.Conv3d)
    }
    assert changed == convolutions


def test_default_of_the_vnet_is_that_of_torch() -> None:
    weight = vnet("default").get_parameter("decoder.0.0.conv.weight")
    bound = 1 / math.sqrt(weight[0].numel())
    assert weight.abs().max() <= bound
    assert std(weight) == pytest.approx(bound / math.sqrt(3), rel=0.03)


def test_default_of_the_unet_is_kaiming_for_its_leaky_relu() -> None:
    net = build_network("unet", channels=1, classes=2, spatial_dims=3, filters=(16, 32, 64))
    up, conv = net.get_submodule("up.0"), net.get_submodule("encoder.2.1.conv")
    assert isinstance(up, nn.ConvTranspose3d)
    assert isinstance(conv, nn.Conv3d)
    assert up.bias is not None
    gain = math.sqrt(2 / (1 + 0.01**2))
    assert std(conv.weight) == pytest.approx(gain / math.sqrt(conv.weight[0].numel()), rel=0.03)
    assert std(up.weight) == pytest.approx(gain / math.sqrt(up.weight[0].numel()), rel=0.05)
    assert not up.bias.any()


def test_two_builds_draw_differently_and_a_seed_repeats_them() -> None:
    first = build_network("vnet", channels=1, classes=2, spatial_dims=2, filters=2)
    second = build_network("vnet", channels=1, classes=2, spatial_dims=2, filters=2)
    assert not torch.equal(first.get_parameter("head.weight"), second.get_parameter("head.weight"))
    assert torch.equal(vnet("xavier").get_parameter("head.weight"), vnet("xavier").get_parameter("head.weight"))
