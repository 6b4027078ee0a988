"""One network whose last stage and head are there several times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from semiseg.errors import InputError
from semiseg.networks import build_network
from semiseg.networks.import_weights import import_weights
from semiseg.networks.late_branches import LateBranchedNet

OPTIONS: dict[str, dict[str, Any]] = {
    "vnet": {"filters": 2},
    "unet": {"filters": (4, 6, 8), "normalisation": "batch"},
    "unet2d": {"filters": (4, 6, 8), "dropout": 0.0},
}


@pytest.mark.parametrize(("name", "dims"), [("vnet", 3), ("vnet", 2), ("unet", 3), ("unet2d", 2)])
def test_the_first_branch_is_the_architecture_and_the_others_share_its_features(
    name: str, dims: int, tmp_path: Path
) -> None:
    every = {"channels": 1, "classes": 3, "spatial_dims": dims, **OPTIONS[name]}
    single = build_network(name, **every).eval()
    net = build_network(name, network="late_branches", branches=3, **every).eval()
    assert isinstance(net, LateBranchedNet)
    save_file(single.state_dict(), tmp_path / "single.safetensors")
    import_weights(tmp_path / "single.safetensors", net)
    x = 5 * torch.randn(2, 1, *(16,) * dims)
    logits, shared = net.branch(x)
    assert torch.equal(logits[0], single(x))
    assert torch.equal(logits[0], net(x))
    assert shared.shape == (2, net.shared_channels, *(16,) * dims)
    taps = tuple(net.taps)
    torch.testing.assert_close(net(x, taps)[1], single(x, taps)[1])
    assert len(logits) == 3
    assert not torch.equal(logits[1], logits[2])
    for branch in net.others:
        branch.stage.load_state_dict(net.decoder.stages[-1].state_dict())
        branch.head.load_state_dict(net.decoder.head.state_dict())
    assert all(torch.equal(z, logits[0]) for z in net.branch(x)[0])
    save_file(net.state_dict(), tmp_path / "own.safetensors")
    other = build_network(name, network="late_branches", branches=3, **every).eval()
    assert isinstance(other, LateBranchedNet)
    import_weights(tmp_path / "own.safetensors", other)
    assert torch.equal(other.branch(x)[0][2], logits[0])


def test_dropout_can_be_left_out() -> None:
    net = build_network("vnet", network="late_branches", channels=1, classes=2, spatial_dims=2, filters=2, dropout=0.5)
    assert isinstance(net, LateBranchedNet)
    x = torch.randn(1, 1, 32, 32)
    assert not torch.equal(net.eval().branch(x, dropout=True)[0][1], net.branch(x)[0][1])
    assert torch.equal(net.branch(x, dropout=False)[0][1], net.branch(x)[0][1])


def test_networks_that_cannot_be_taken_apart_are_refused() -> None:
    with pytest.raises(InputError, match="takes encoder and decoder apart"):
        build_network("unet3d", network="late_branches", channels=1, classes=2, spatial_dims=3)
