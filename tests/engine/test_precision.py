"""Layouts of weights and features."""

from __future__ import annotations

import pytest
import torch

from semiseg.engine.precision import set_memory_format
from semiseg.networks import build_network


@pytest.mark.parametrize(("dims", "layout"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
@pytest.mark.parametrize("channels", [1, 2])
def test_features_of_all_stages_are_channels_last(dims: int, layout: torch.memory_format, channels: int) -> None:
    net = build_network("vnet", channels=channels, classes=2, spatial_dims=dims, filters=4)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    set_memory_format(net, layout)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    images = torch.randn(2, channels, *(32,) * dims).to(memory_format=layout)
    names = tuple(name for name in net.taps if name.startswith(("enc", "dec")))
    with torch.autocast("cpu", torch.bfloat16):
        _, features = net(images, names)
    for name, feature in features.items():
        assert feature.is_contiguous(memory_format=layout), name
        assert not feature.is_contiguous(), name


@pytest.mark.parametrize(("dims", "layout"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_gradients_lie_as_their_weights(dims: int, layout: torch.memory_format, precision: torch.dtype) -> None:
    """Otherwise processes that train together copy them once more, and PyTorch warns of it."""
    net = build_network("vnet", channels=1, classes=2, spatial_dims=dims, filters=4)
    set_memory_format(net, layout)
    images = torch.randn(2, 1, *(32,) * dims).to(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        logits = net(images)
    logits.float().square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        if parameter.shape[2:].numel() > 1:  # a kernel of one voxel is in both layouts at once
            assert parameter.grad.stride() == parameter.stride(), name
