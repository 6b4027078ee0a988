"""The U-Net of the ACDC papers against its official classes."""

from __future__ import annotations

import ast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from golden_files import golden
from semiseg.networks import build_network
from semiseg.networks.base import Network
from semiseg.networks.import_weights import import_official, load_state

OUTPUT = {"rtol": 1e-4, "atol": 1e-5}
GRADIENT = {"rtol": 1e-3, "atol": 1e-6}
GROUPS = {"bilinear": "linear", "transposed": "transposed"}


@pytest.fixture(scope="module")
def g() -> dict[str, np.ndarray]:
    return golden("unet2d")


def network(g: dict[str, np.ndarray], group: str) -> Network:
    filters = tuple(g["feature_chns"].tolist())
    net = build_network(
        "unet2d",
        channels=int(g["in_chns"]),
        classes=int(g["class_num"]),
        spatial_dims=2,
        filters=filters,
        dropout=0.5,
        upsampling=GROUPS[group],
    )
    prefix = f"{group}/sd/"
    state = {name.removeprefix(prefix): torch.from_numpy(g[name]) for name in g if name.startswith(prefix)}
    load_state(net, import_official(state), group)
    return net


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def close(ours: Tensor, official: np.ndarray, **tolerance: float) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), official, **(tolerance or OUTPUT))


@pytest.mark.parametrize("group", GROUPS)
def test_evaluation_mode(g: dict[str, np.ndarray], group: str) -> None:
    net = network(g, group).eval()
    assert parameters(net) == int(g[f"{group}/params"])
    stages = range(len(g["feature_chns"]))
    logits, features = net(torch.from_numpy(g[f"{group}/x"]), tuple(f"enc{stage + 1}" for stage in stages))
    close(logits, g[f"{group}/y_eval"])
    for stage in stages:
        close(features[f"enc{stage + 1}"], g[f"{group}/feat{stage}"])


@pytest.mark.parametrize("group", GROUPS)
def test_training_mode(g: dict[str, np.ndarray], group: str) -> None:
    net = network(g, group).train()
    x = torch.from_numpy(g[f"{group}/x"]).requires_grad_()
    logits = net(x, dropout=False)
    close(logits, g[f"{group}/y_train_nodrop"])
    number = torch.arange(1, logits.shape[1] + 1).view(1, -1, 1, 1)
    (logits * number).square().mean().backward()
    assert x.grad is not None
    close(x.grad, g[f"{group}/grad_x"], **GRADIENT)
    first = next(module for module in net.modules() if isinstance(module, nn.BatchNorm2d))
    assert first.running_mean is not None
    assert first.running_var is not None
    close(first.running_mean, g[f"{group}/running_mean_after"])
    close(first.running_var, g[f"{group}/running_var_after"])


def test_full_width_has_the_official_names_shapes_and_number_of_parameters(g: dict[str, np.ndarray]) -> None:
    net = build_network("unet2d", channels=1, classes=4, spatial_dims=2)
    assert parameters(net) == int(g["full_params_unet"])
    shapes = [ast.literal_eval(str(shape)) for shape in g["full_shapes"]]
    state = {str(name): torch.zeros(shape) for name, shape in zip(g["full_keys"], shapes, strict=True)}
    ours = net.state_dict()
    named = import_official(state)
    assert named.keys() == ours.keys()
    assert {name: tuple(value.shape) for name, value in named.items()} == {
        name: tuple(value.shape) for name, value in ours.items()
    }
