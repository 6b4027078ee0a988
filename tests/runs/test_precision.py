"""Layouts of weights and features."""

from __future__ import annotations

import pytest
import torch

from semiseg.networks import build_network
from semiseg.runs.precision import autocast, cpu_convolves_bf16, resolve_precision, set_memory_format

CPU = torch.device("cpu")
FORMATS = ["fp32", pytest.param("bf16", marks=pytest.mark.skipif(not cpu_convolves_bf16(), reason="no such kernels"))]
"""Number formats in which this processor is let convolve."""


@pytest.mark.parametrize(("dims", "layout"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("precision", FORMATS)
def test_features_of_all_stages_are_channels_last(
    dims: int, layout: torch.memory_format, channels: int, precision: str
) -> None:
    net = build_network("vnet", channels=channels, classes=2, spatial_dims=dims, filters=4)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    set_memory_format(net, layout)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    images = torch.randn(2, channels, *(32,) * dims).to(memory_format=layout)
    names = tuple(name for name in net.taps if name.startswith(("enc", "dec")))
    with autocast(CPU, precision):
        _, features = net(images, names)
    for name, feature in features.items():
        assert feature.is_contiguous(memory_format=layout), name
        assert not feature.is_contiguous(), name


@pytest.mark.parametrize(("dims", "layout"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
@pytest.mark.parametrize("precision", FORMATS)
def test_gradients_lie_as_their_weights(dims: int, layout: torch.memory_format, precision: str) -> None:
    """Otherwise processes that train together copy them once more, and PyTorch warns of it."""
    net = build_network("vnet", channels=1, classes=2, spatial_dims=dims, filters=4)
    set_memory_format(net, layout)
    images = torch.randn(2, 1, *(32,) * dims).to(memory_format=layout)
    with autocast(CPU, precision):
        logits = net(images)
    logits.float().square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        if parameter.shape[2:].numel() > 1:  # a kernel of one voxel is in both layouts at once
            assert parameter.grad.stride() == parameter.stride(), name


@pytest.mark.parametrize("asked", ["auto", "bf16"])
def test_a_processor_without_bf16_convolutions_is_never_asked_for_them(
    monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """What PyTorch does in their place loses the layout, and takes many times as long as float32."""
    monkeypatch.setattr("semiseg.runs.precision.cpu_convolves_bf16", lambda: False)
    assert resolve_precision(asked, "cpu") == "fp32"
    assert resolve_precision("fp32", "cpu") == "fp32"


def test_what_is_computed_in_bf16_here_keeps_its_layout() -> None:
    """However PyTorch was limited, and whatever the processor."""
    x = torch.randn(2, 4, 8, 8, 8).to(memory_format=torch.channels_last_3d)
    convolution = torch.nn.Conv3d(4, 4, 3, padding=1)
    set_memory_format(convolution, torch.channels_last_3d)
    with autocast(CPU, resolve_precision("bf16", "cpu")):
        y = convolution(x)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
