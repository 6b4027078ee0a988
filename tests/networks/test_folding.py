"""Normalisations that become part of convolutions change nothing but the time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from semiseg.networks import build_network
from semiseg.networks.folding import fold_batch_norms


def _with_statistics(net: nn.Module) -> nn.Module:
    """Running statistics, scales and shifts as after a training."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            for tensor in (module.running_mean, module.bias.data):
                tensor.normal_(0, 0.3)
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.5, 2)
    return net


@pytest.mark.parametrize(
    ("name", "dims", "options", "folded"),
    [
        ("vnet", 3, {"filters": 4}, 29),
        ("vnet", 3, {"filters": 4, "upsampling": "linear", "residual": True}, 29),
        ("vnet", 2, {"filters": 4}, 29),
        ("vnet", 3, {"filters": 16, "normalisation": "group"}, 0),
        ("vnet", 3, {"filters": 4, "normalisation": "instance"}, 0),
        ("unet2d", 2, {}, 18),
        ("unet", 3, {"filters": [4, 8, 8], "normalisation": "batch"}, 10),
    ],
)
def test_outputs_agree(name: str, dims: int, options: dict, folded: int) -> None:
    torch.manual_seed(0)
    net = _with_statistics(build_network(name, channels=1, classes=3, spatial_dims=dims, **options)).eval()
    x = torch.randn(2, 1, *(32,) * dims)
    with torch.no_grad():
        before = net(x)
        assert fold_batch_norms(net) == folded
        after = net(x)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)]
    assert not norms
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    assert torch.equal(after, before) == (folded == 0)


def test_statistics_of_the_batch_are_not_folded() -> None:
    net = build_network("vnet", channels=1, classes=2, spatial_dims=3, filters=4).train()
    assert fold_batch_norms(net) == 0
    net.eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    assert fold_batch_norms(net) == 0
