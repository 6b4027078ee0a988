"""A network with a second head for signed distances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from semiseg.networks import build_network
from semiseg.networks.distance import DistanceNet
from semiseg.networks.import_weights import import_weights

OPTIONS: dict[str, dict[str, Any]] = {
    "vnet": {"filters": 2},
    "unet": {"filters": (4, 6)},
    "unet2d": {"filters": (4, 6, 8), "dropout": 0.0},
    "unet3d": {"filters": (4, 6, 8), "dropout": (0.0, 0.0)},
}


@pytest.mark.parametrize(("name", "dims"), [("vnet", 3), ("vnet", 2), ("unet", 2), ("unet2d", 2), ("unet3d", 3)])
def test_any_architecture_has_a_second_head(name: str, dims: int, tmp_path: Path) -> None:
    every = {"channels": 1, "classes": 3, "spatial_dims": dims, **OPTIONS[name]}
    single = build_network(name, **every).eval()
    net = build_network(name, network="distance", maps=2, **every).eval()
    assert isinstance(net, DistanceNet)
    save_file(single.state_dict(), tmp_path / "single.safetensors")
    import_weights(tmp_path / "single.safetensors", net)
    x = 5 * torch.randn(2, 1, *(16,) * dims)
    logits, distances = net.with_distances(x)
    assert torch.equal(logits, single(x))
    assert torch.equal(net(x), logits)
    assert distances.shape == (2, 2, *(16,) * dims)
    assert distances.abs().max() < 1
    assert torch.equal(net(x, ("dec1",))[1]["dec1"], single(x, ("dec1",))[1]["dec1"])
    save_file(net.state_dict(), tmp_path / "own.safetensors")
    other = build_network(name, network="distance", maps=2, **every).eval()
    import_weights(tmp_path / "own.safetensors", other)
    assert torch.equal(other.with_distances(x)[1], distances)
