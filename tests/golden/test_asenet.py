"""ASE-Net against its official layers and consistency; its training scripts cannot be run as published."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from golden_files import golden
from semiseg.methods.asenet.method import three_way
from semiseg.networks import build_network
from semiseg.networks.dynamic import DynamicConv, GatedDynamicConv
from stand_ins import close, leaf, tensor

CLOSE = {"rtol": 1e-4, "atol": 1e-6}
OWN = {"attention__fc1": "reduce", "attention__fc2": "score", "conv_1": "pointwise"}
GATE = {"0": "reduce", "1": "score", "2": "norm"}


@pytest.fixture(scope="module")
def g():
    return golden("asenet")


def load(layer, g, prefix):
    """Kernels of size 1 in front of the softmax are linear layers here; normalisations there are unused."""
    state = layer.state_dict()
    for key in (key for key in g if key.startswith(prefix)):
        name, _, last = key.removeprefix(prefix).rpartition("__")
        if "bn" in name or name == "finall":
            continue
        own = f"{OWN[name]}.{last}" if name else last
        state[own] = tensor(g[key], torch.float32).reshape(state[own].shape)
    layer.load_state_dict(state)
    return layer


@pytest.mark.parametrize(("case", "stride"), [("dyn3", 1), ("dyn2", 2)])
def test_dynamic_convolution(g, case, stride):
    x, weight, degrees = leaf(g[f"{case}_x"], torch.float32), g[f"{case}_p_weight"], g[f"{case}_temperature"]
    outputs = len(g[f"{case}_p_conv_1__bias"])
    layer = DynamicConv(x.shape[1], outputs, weight.shape[3:], stride=stride, degrees=float(degrees))
    load(layer, g, f"{case}_p_")
    y = layer(x)
    close(y, g[f"{case}_y"], **CLOSE)
    if case == "dyn3":
        assert len(weight) == int(g["dyn3_K"])
        close(layer.attention(x), g["dyn3_attention"], **CLOSE)
        y.square().sum().backward()
        close(x.grad, g["dyn3_grad_x_of_sum_sq"], rtol=1e-4, atol=1e-4)


def test_gated_dynamic_convolution(g):
    x, bias = tensor(g["dybac3_x"], torch.float32), g["dybac3_p_dybac__1__conv_1__bias"]
    layer = GatedDynamicConv(x.shape[1], len(bias), g["dybac3_p_dybac__1__weight"].shape[3:])
    load(layer[1], g, "dybac3_p_dybac__1__")
    prefix, state = "dybac3_p_dybac__0__spatial_excitation__", layer[0].state_dict()
    for key in (key for key in g if key.startswith(prefix)):
        number, _, last = key.removeprefix(prefix).partition("__")
        state[f"{GATE[number]}.{last}"] = tensor(g[key], torch.float32)
    layer[0].load_state_dict(state)
    close(layer.eval()(x), g["dybac3_y_eval"], **CLOSE)


@pytest.mark.parametrize("classes", [1, 2])
def test_consistency(g, classes):
    prefix = f"cons_c{classes}_"
    clean, noisy = (leaf(g[f"{prefix}student_{name}"], torch.float32) for name in ("clean", "noisy"))
    teacher = tensor(g[f"{prefix}teacher"], torch.float32)
    loss = three_way(clean.softmax(1), noisy.softmax(1), teacher.softmax(1))
    loss.backward()
    close(loss, g[f"{prefix}loss"], **CLOSE)
    close(clean.grad, g[f"{prefix}grad_clean"], **CLOSE)
    close(noisy.grad, g[f"{prefix}grad_noisy"], **CLOSE)
    close(three_way(clean, noisy, teacher), g[f"{prefix}loss_without_softmax"], **CLOSE)


def test_verdicts(g):
    verdict = tensor(g["disc_logits"], torch.float32)
    for target in (0, 1):
        expected = torch.full((len(verdict),), target)
        close(F.cross_entropy(verdict, expected), g[f"disc_ce_target{target}"], **CLOSE)


def test_size():
    net = build_network("vnet", network="dynamic", channels=1, classes=2, spatial_dims=3)
    assert sum(p.numel() for p in net.parameters()) == 1_357_664
