"""One encoder with several decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from semiseg.networks import build_network
from semiseg.networks.blocks import scale_gradient
from semiseg.networks.branches import BranchedNet
from semiseg.networks.import_weights import import_weights

OPTIONS: dict[str, dict[str, Any]] = {
    "vnet": {"filters": 2, "dropout": 0.0},
    "unet": {"filters": (4, 6, 8), "normalisation": "batch"},
    "unet2d": {"filters": (4, 6, 8), "dropout": 0.0},
}


def build(name: str = "unet", dims: int = 2, **options: Any) -> BranchedNet:
    torch.manual_seed(0)
    every = {"channels": 2, "classes": 3, "spatial_dims": dims, "network": "branches", "decoders": 3}
    net = build_network(name, **{**every, **OPTIONS[name], **options})
    assert isinstance(net, BranchedNet)
    return net.eval()


def images(dims: int) -> Tensor:
    return torch.randn(2, 2, *(32, 16, 16)[:dims], generator=torch.Generator().manual_seed(1))


def gradients(module: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dims", [2, 3])
def test_every_decoder_is_a_network_with_the_encoder(name: str, dims: int, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    single = build_network(name, channels=2, classes=3, spatial_dims=dims, **OPTIONS[name]).eval()
    save_file(single.state_dict(), tmp_path / "single.safetensors")
    net, x = build(name, dims), images(dims)
    other = net.decoders[1].head.weight.clone()
    import_weights(tmp_path / "single.safetensors", net)
    logits, taps = net(x, tuple(net.taps))
    expected, features = single(x, tuple(net.taps))
    assert torch.equal(logits, expected)
    assert all(torch.equal(taps[tap], features[tap]) for tap in net.taps)
    assert torch.equal(net.decoders[1].head.weight, other), "the others keep what they have"
    first, second, third = net.decode(x)
    assert torch.equal(first, logits)
    assert not torch.equal(second, third)
    net.decoders[1].load_state_dict(net.decoders[0].state_dict())
    assert torch.equal(net.decode(x)[1], first)


def test_own_weights_load(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    one, other = build(), build(init="kaiming")
    save_file(one.state_dict(), tmp_path / "own.safetensors")
    import_weights(tmp_path / "own.safetensors", other)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize("factor", [-0.3, 0.0, 2.0])
def test_gradient_of_a_decoder_is_scaled_before_the_encoder_only(factor: float) -> None:
    def after(gradient: float) -> tuple[Tensor, Tensor]:
        net = build().double()
        net.decode(images(2).double(), (1.0, gradient))[1].square().sum().backward()
        return gradients(net.encoder), gradients(net.decoders[1])

    (encoder, decoder), (scaled, same) = after(1.0), after(factor)
    torch.testing.assert_close(scaled, factor * encoder)
    assert torch.equal(same, decoder)
    x = torch.ones(3, requires_grad=True)
    assert torch.equal(scale_gradient(x, torch.tensor(factor)), x)


def test_a_decoder_without_gradient() -> None:
    net = build()
    first, second, third = net.decode(images(2), (1.0, None))
    assert (first.requires_grad, second.requires_grad, third.requires_grad) == (True, False, True)
    assert torch.equal(second, net.decode(images(2))[1])


@pytest.mark.parametrize(("name", "dropout"), [("vnet", 0.5), ("unet", 0.5), ("unet2d", 0.3)])
def test_dropout_is_the_architecture_s(name: str, dropout: float) -> None:
    net, x = build(name, dropout=dropout), images(2)
    with torch.no_grad():
        assert torch.equal(net.decode(x)[0], net.decode(x, dropout=False)[0])
        assert not torch.equal(net.decode(x, dropout=True)[0], net.decode(x)[0])
        net.train()
        assert torch.equal(net.decode(x, dropout=False)[2], net.decode(x, dropout=False)[2])
        for decoder in net.decoders:
            decoder.load_state_dict(net.decoders[0].state_dict())
        first, second, _ = net.decode(x)
    assert torch.equal(first, second) == (name == "unet2d"), "heads draw dropout of their own"


def test_refusals() -> None:
    with pytest.raises(ValueError, match="not multiples"):
        build().decode(torch.zeros(1, 2, 9, 16))
