"""The two-decoder form of V-Net and U-Net, where the official network says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from semiseg.errors import InputError
from semiseg.networks import build_network
from semiseg.networks.import_weights import import_weights
from semiseg.networks.lefed import LeFeDNet

UNET = {"filters": (4, 6, 8), "normalisation": "batch"}
STRIDES = {2: ((1, 1), (2, 1), (2, 2)), 3: ((1, 1, 1), (2, 2, 1), (2, 3, 2))}
SIDES = {
    "vnet": {2: (16, 32), 3: (16, 16, 32)},
    "unet": {2: (8, 4), 3: (8, 6, 4)},
    "unet2d": {2: (8, 16), 3: (8, 8, 4)},
}
CASES = [(name, dims) for name in SIDES for dims in (2, 3)]


def options_of(name: str, dims: int) -> dict[str, Any]:
    mine: dict[str, dict[str, Any]] = {
        "vnet": {"filters": 2},
        "unet": {**UNET, "strides": STRIDES[dims]},
        "unet2d": {"filters": (4, 6, 8), "dropout": 0.3},
    }
    return mine[name]


def build(name: str = "vnet", dims: int = 3, classes: int = 3, **options: Any) -> LeFeDNet:
    torch.manual_seed(0)
    own = options_of(name, dims)
    every = {"channels": 2, "classes": classes, "spatial_dims": dims}
    net = build_network(name, network="lefed", **{**every, **own, **options})
    assert isinstance(net, LeFeDNet)
    return net.eval()


def image(name: str, dims: int) -> Tensor:
    return torch.randn(2, 2, *SIDES[name][dims], generator=torch.Generator().manual_seed(1))


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        net = build(filters=16, channels=1, classes=2)
    assert [size(part) for part in (net.encoder, net.a, net.b, net.sides)] == [7_376_896, 2_071_970, 2_898_850, 1_002]


@pytest.mark.parametrize(("name", "dims"), CASES)
def test_shapes_and_plain_call(name: str, dims: int) -> None:
    net, x = build(name, dims), image(name, dims)
    with torch.no_grad():
        logits, features = net(x, tuple(net.taps))
        out = net.decode_both(x, sides_of=1)
    assert torch.equal(logits, out.logits_a)
    assert out.logits_b.shape == logits.shape == (2, 3, *x.shape[2:])
    assert not torch.equal(out.logits_b, logits)
    assert [side.shape for side in out.sides] == [(1, *logits.shape[1:])] * len(out.features_a)
    stages = [value for key, value in features.items() if key.startswith("enc")]
    for a, b, stage in zip(out.features_a, out.features_b, stages, strict=True):
        assert a.shape == b.shape == stage.shape


@pytest.mark.parametrize(("name", "dims"), CASES)
def test_feedback_enters_at_its_scale_and_moves_on(name: str, dims: int) -> None:
    net, x = build(name, dims), image(name, dims)
    with torch.no_grad():
        plain = net.decode_both(x)
        zero = net.decode_both(x, [torch.zeros_like(f) for f in plain.features_a])
        assert torch.equal(zero.logits_a, plain.logits_a)
        deepest = [torch.zeros_like(f) for f in plain.features_a]
        deepest[-1] += 1
        moved = net.decode_both(x, deepest)
        torch.testing.assert_close(moved.features_a[-1], plain.features_a[-1] + 1)
        first = net.decode_both(x, [torch.ones_like(plain.features_a[0])])
        assert not torch.equal(first.features_a[-1], plain.features_a[-1])


def test_gate_is_what_the_paper_draws_and_has_no_gradient() -> None:
    gated, x = build(), image("vnet", 3)
    out = gated.decode_both(x)
    bottom = out.features_a[-1]
    torch.testing.assert_close(out.features_b[-1], bottom + bottom * torch.sigmoid(bottom))
    out.logits_b.square().sum().backward()
    assert all(parameter.grad is None for parameter in gated.a.parameters())
    assert all(parameter.grad is not None for parameter in gated.encoder.parameters())
    open_ = build(cross_gate=False)
    torch.testing.assert_close(open_.decode_both(x).features_b[-1], bottom)
    torch.testing.assert_close(open_.decode_both(x).logits_a, out.logits_a)


@pytest.mark.parametrize("name", ["unet", "unet2d"])
def test_dropout_of_both_places_can_be_switched(name: str) -> None:
    x = image(name, 3)
    for place in ("encoder_dropout", "decoder_dropout"):
        net = build(name, **{"encoder_dropout": 0.0, "decoder_dropout": 0.0, place: 0.5})
        with torch.no_grad():
            fixed = net.decode_both(x, dropout=False)
            drawn = net.decode_both(x, dropout=True)
            assert torch.equal(net.decode_both(x).logits_b, fixed.logits_b)
        assert not torch.equal(fixed.logits_a, drawn.logits_a)
        assert torch.equal(fixed.features_a[0], drawn.features_a[0]) == (place == "decoder_dropout")


def test_sides_are_enlarged_stage_by_stage() -> None:
    net, x = build("unet", 3), image("unet", 3)
    with torch.no_grad():
        out = net.decode_both(x)
        logits = net.sides[2](out.features_a[2])
        for factor in reversed(STRIDES[3][1:]):
            shape = [side * unit for side, unit in zip(logits.shape[2:], factor, strict=True)]
            logits = nn.functional.interpolate(logits, size=shape, mode="trilinear", align_corners=True)
    torch.testing.assert_close(out.sides[2], logits)


@pytest.mark.parametrize("name", SIDES)
def test_weights_of_one_decoder_start_encoder_and_first_decoder(name: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    single = build_network(name, channels=2, classes=3, spatial_dims=3, upsampling="transposed", **options_of(name, 3))
    single.eval()
    save_file(single.state_dict(), tmp_path / "single.safetensors")
    net = build(name)
    second = {key: value.clone() for key, value in net.b.state_dict().items()}
    import_weights(tmp_path / "single.safetensors", net)
    with torch.no_grad():
        assert torch.equal(net(image(name, 3)), single(image(name, 3)))
    assert all(torch.equal(value, second[key]) for key, value in net.b.state_dict().items())


@pytest.mark.parametrize("name", SIDES)
def test_own_weights_load(name: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    one, other = build(name), build(name, init="kaiming")
    save_file(one.state_dict(), tmp_path / "own.safetensors")
    import_weights(tmp_path / "own.safetensors", other)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def test_taps_are_stages_whatever_else_the_architecture_has() -> None:
    net = build("vnet", deep_supervision=True)
    assert set(net.taps) == {f"enc{k}" for k in range(1, 6)} | {f"dec{k}" for k in range(1, 5)}


def test_refusals() -> None:
    with pytest.raises(InputError, match="unknown form of network 'lefeed'"):
        build_network("vnet", network="lefeed", channels=1, classes=2, spatial_dims=2)
    with pytest.raises(InputError, match="encoder_dropout"):
        build(encoder_dropout=1.0)
    with pytest.raises(InputError, match="unknown setting 'cross_gates'"):
        build(cross_gates=False)
    with pytest.raises(ValueError, match="not multiples"):
        build().decode_both(torch.zeros(1, 2, 8, 16, 16))
