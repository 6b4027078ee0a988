"""Every registered network, in 2D and 3D and with its options, keeps the protocol."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from semiseg.errors import InputError
from semiseg.networks import NETWORKS, build_network
from semiseg.networks.base import Network
from semiseg.runs.precision import autocast, resolve_precision

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "vnet": [
        {"filters": 2},
        {"filters": 2, "normalisation": "instance", "deep_supervision": True},
        {"filters": 16, "normalisation": "group", "upsampling": "nearest"},
        {"filters": 2, "normalisation": "none", "residual": True},
        {"filters": 2, "upsampling": "linear", "residual": True, "dropout": 0.0},
    ],
    "unet": [
        {},
        {"filters": (4, 6, 8, 8), "deep_supervision": True, "dropout": 0.5},
        {"filters": (4, 8), "normalisation": "batch"},
        {"filters": (16, 32, 32), "normalisation": "group"},
        {"filters": (4, 6, 8), "normalisation": "none", "strides": "mixed", "kernels": "anisotropic"},
        {"filters": (4, 6, 8), "strides": "mixed", "upsampling": "linear"},
        {"filters": (4, 6, 8), "strides": "mixed", "upsampling": "nearest"},
    ],
    "unet2d": [
        {"filters": (2, 3, 4, 5, 6)},
        {"filters": (2, 3, 4), "dropout": (0.0, 0.1, 0.5), "upsampling": "transposed"},
        {"filters": (2, 4), "dropout": 0.0, "upsampling": "nearest"},
        {"filters": (2, 3, 4, 5), "dropout": 0.1, "deep_supervision": True},
        {"filters": (2, 3, 4, 5, 6), "deep_supervision": True, "side_kernel": 3, "perturb_sides": True},
    ],
    "unet3d": [
        {"filters": (2, 3, 4, 5, 6)},
        {"filters": (2, 4), "dropout": 0.0},
        {"filters": (2, 3, 4), "dropout": (0.5, 0.1), "deep_supervision": True},
    ],
}
MIXED = {2: ((1, 1), (2, 1), (2, 2)), 3: ((1, 1, 1), (2, 2, 1), (2, 3, 2))}
CASES = [
    pytest.param(name, dims, options, id=f"{name}-{dims}d-{number}")
    for name in NETWORKS
    for dims in (2, 3)
    for number, options in enumerate(OPTIONS[name])
]


def build(name: str, dims: int, options: dict[str, Any], *, channels: int = 1, classes: int = 3) -> Network:
    if options.get("strides") == "mixed":
        options = {**options, "strides": MIXED[dims]}
    return build_network(name, channels=channels, classes=classes, spatial_dims=dims, **options)


def image(net: Network, *, batch: int = 2, channels: int = 1) -> torch.Tensor:
    sides = [unit * (2 if axis == 0 or unit > 2 else 4) for axis, unit in enumerate(net.divisor)]
    return torch.randn(batch, channels, *sides, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_every_network_has_cases() -> None:
    assert set(OPTIONS) == set(NETWORKS)


@pytest.mark.parametrize(("name", "dims", "options"), CASES)
def test_taps_are_as_declared(name: str, dims: int, options: dict[str, Any]) -> None:
    net = build(name, dims, options)
    x = image(net)
    logits, features = net(x, tuple(net.taps))
    assert logits.shape == (2, 3, *x.shape[2:])
    assert list(features) == list(net.taps)
    for tap, feature in features.items():
        declared = net.taps[tap]
        sides = [side // stride for side, stride in zip(x.shape[2:], declared.stride, strict=True)]
        assert feature.shape == (2, declared.channels, *sides), tap
    assert net.divisor == max((tap.stride for tap in net.taps.values()), key=math.prod)
    assert len(net.decoder_taps) == sum(tap.startswith("enc") for tap in net.taps) - 1
    heads = [tap for tap in net.taps if tap.startswith("head")]
    assert len(heads) == (len(net.decoder_taps) - 1 if options.get("deep_supervision") else 0)


@pytest.mark.parametrize(("name", "dims", "options"), CASES)
def test_every_parameter_gets_a_finite_gradient(name: str, dims: int, options: dict[str, Any]) -> None:
    net = build(name, dims, options)
    heads = tuple(tap for tap in net.taps if tap.startswith("head"))
    logits, features = net(image(net), (*heads, "enc1"))
    (logits.square().mean() + sum(feature.square().mean() for feature in features.values())).backward()
    for parameter, value in net.named_parameters():
        assert value.grad is not None, parameter
        assert torch.isfinite(value.grad).all(), parameter


@pytest.mark.parametrize(("name", "dims", "options"), CASES)
def test_state_dict_round_trip(name: str, dims: int, options: dict[str, Any]) -> None:
    first, second = build(name, dims, options).eval(), build(name, dims, options).eval()
    x = image(first)
    assert not torch.equal(first(x), second(x))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dims", [2, 3])
def test_dropout_switch(name: str, dims: int) -> None:
    net = build(name, dims, {"dropout": 0.5})
    x = image(net)
    with torch.no_grad():
        net.train()
        assert not torch.equal(net(x), net(x))
        assert torch.equal(net(x, dropout=False), net(x, dropout=False))
        _, features = net(x, (net.decoder_taps[-1],))
        last = features[net.decoder_taps[-1]]
        assert last.flatten(2).abs().sum(2).gt(0).all(), "taps are before the dropout"
        net.eval()
        assert torch.equal(net(x), net(x))
        assert not torch.equal(net(x, dropout=True), net(x, dropout=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_one_network_for_both_memory_layouts_and_bf16(name: str) -> None:
    net = build(name, 3, {"dropout": 0.0}, channels=2)
    x = image(net, channels=2)
    contiguous = net(x)
    last = net.to(memory_format=torch.channels_last_3d)(x.contiguous(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(last, contiguous, rtol=1e-3, atol=1e-3)
    with autocast(torch.device("cpu"), resolve_precision("bf16", "cpu")):
        half = net(x).float()
    assert (half - contiguous).abs().mean() < 0.1 * contiguous.abs().mean()


@pytest.mark.parametrize("name", NETWORKS)
def test_refused_calls(name: str) -> None:
    net = build(name, 3, {})
    with pytest.raises(ValueError, match=rf"not multiples of \[{net.divisor[0]}, "):
        net(torch.zeros(1, 1, net.divisor[0] + 1, net.divisor[1], net.divisor[2]))
    with pytest.raises(ValueError, match="3 sides"):
        net(torch.zeros(1, 1, 16, 16))
    with pytest.raises(ValueError, match=r"'dec11'.*'dec1'"):
        net(torch.zeros(1, 1, *net.divisor), ("dec11",))


def test_refused_settings() -> None:
    def refused(name: str, dims: int = 3, channels: int = 1, **options: Any) -> str:
        with pytest.raises(InputError) as caught:
            build_network(name, channels=channels, classes=2, spatial_dims=dims, **options)
        return str(caught.value)

    assert "'vnet'" in refused("vmet")
    assert "2 or 3" in refused("vnet", dims=4)
    assert "'filters'" in refused("vnet", filter=16)
    assert "dropout" in refused("vnet", dropout=1.0)
    assert "multiple of 16" in refused("vnet", filters=8, normalisation="group")
    assert "residual" in refused("vnet", channels=2, residual=True)
    assert "multiples of 16" in refused("unet", filters=(16, 24), normalisation="group")
    assert "expected one number or 3, one per stage, came 2" in refused("unet2d", filters=(2, 4, 8), dropout=(0.1, 0.2))
    assert "from 0 to below 1" in refused("unet2d", dropout=1.0)
    assert "expected one number or 2, one per decoder stage, came 3" in refused(
        "unet3d", filters=(2, 4, 8), dropout=(0.1, 0.2, 0.3)
    )
    assert "from 0 to below 1" in refused("unet3d", dropout=1.0)
    assert "positive" in refused("unet3d", filters=(0, 4), dropout=0.0)
    for form in ("branches", "lefed"):
        assert "needs unet, unet2d, vnet" in refused("unet3d", network=form)
    assert "positive" in refused("unet2d", filters=(0, 4), dropout=0.0)
    both = refused("unet", filters=(4, 8), strides=((2, 2), (2, 2), (2, 2)))
    assert "2 filters, 3 strides" in both
    assert "3 positive numbers" in both
    assert "first stage" in refused("unet", filters=(4, 8), strides=((2, 2, 2), (2, 2, 2)))
    assert "positive" in refused("unet", filters=(4, 0))


def test_kernels_look_along_an_axis_from_its_first_halving() -> None:
    options = {"filters": (2, 2, 2, 2), "kernels": "anisotropic"}
    strides = ((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2))
    net = build("unet", 3, {**options, "strides": strides})
    kernels = [tuple(stage[0].conv.kernel_size) for stage in net.encoder]  # type: ignore[attr-defined]
    assert kernels == [(3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3)]
    slices = {**options, "strides": ((1, 1, 1), *((2, 2, 1),) * 3), "normalisation": "none"}
    x = torch.zeros(1, 1, 8, 8, 3)
    x[..., 1] = torch.randn(8, 8)
    _, seen = build("unet", 3, slices)(x, ("enc3", "enc4"))
    assert not seen["enc3"][..., 0].any(), "an axis that is never halved is looked along in the last stage only"
    assert seen["enc4"][..., 0].any()


def test_importing_the_package_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, semiseg.networks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
