"""The two-branch V-Net of CML, and official pre-training and self-training steps on it (float64)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.methods.base import Clock, Method, Task, entry
from semiseg.methods.cml import cutmix
from semiseg.networks import build_network
from semiseg.networks.base import Network
from semiseg.networks.import_weights import import_official, import_weights
from stand_ins import close, labels, tensor

EVALUATION = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def g():
    return golden("cml_vnet")


def subnets(g, folder: Path) -> list[Network]:
    """The two branches, each from the one official state dict."""
    state = {name.removeprefix("sd/"): torch.from_numpy(g[name]) for name in g if name.startswith("sd/")}
    path = folder / "official.safetensors"
    save_file(state, path)
    nets = []
    for upsampling, others in (("transposed", "2"), ("linear", "1")):
        net = build_network(
            "vnet",
            channels=g["eval_x"].shape[1],
            classes=g["eval_out1"].shape[1],
            spatial_dims=3,
            filters=int(g["width"]),
            dropout=0.0,
            upsampling=upsampling,
        )
        import_weights(path, net, ignore=(f"encoder{others}.", f"decoder{others}."))
        nets.append(net)
    return nets


def test_evaluation_mode(g, tmp_path):
    for number, net in enumerate(subnets(g, tmp_path), 1):
        logits, features = net.eval()(torch.from_numpy(g["eval_x"]), ("bottleneck",))
        close(logits, g[f"eval_out{number}"], **EVALUATION)
        close(features["bottleneck"], g[f"eval_f{number}"], **EVALUATION)


def method_of(g, nets: list[Network]) -> Method:
    nets = list(nets)
    options = {
        "mix_ratio": float(g["ratio"]),
        "labelled_weight": float(g["l_weight"]),
        "unlabelled_weight": float(g["u_weight"]),
        "discrepancy_weight": float(g["dis_weight"]),
    }
    classes = g["eval_out1"].shape[1]
    task = Task(classes, g["eval_x"].shape[1], 3, (1,) * classes)
    return entry("cml-official").build(options, task, lambda **_: nets.pop(0)).double().train()


def test_steps_of_both_stages(g, tmp_path, monkeypatch):
    method = method_of(g, subnets(g, tmp_path))
    optimiser = torch.optim.SGD(
        method.groups()["main"],
        lr=float(g["lr"]),
        momentum=float(g["momentum"]),
        weight_decay=float(g["weight_decay"]),
    )
    found: list[Tensor] = []
    real = cutmix.keep_largest

    def noted(raw: Tensor, classes):
        wait = real(raw, classes)
        found.append(wait())
        return wait

    monkeypatch.setattr(cutmix, "keep_largest", noted)
    for k, expected in enumerate(g["losses"]):
        selftraining = f"plab1_{k}" in g
        masks = [tensor(g[name], torch.bool) for name in (f"mask_l{k}", f"mask_u{k}") if name in g]
        monkeypatch.setattr(cutmix, "draw_outside_box", lambda images, ratio, masks=masks: masks.pop(0))
        images, target = tensor(g[f"img{k}"]), labels(g[f"lab{k}"])
        n = len(images) - (len(g[f"plab1_{k}"]) if selftraining else 0)
        stage = method.stages()[1 if selftraining else 0].name
        (loss,) = one_step(method, optimiser, Batch(images, target[:n]), Clock(k, 9, 0, 1, stage))
        assert not masks
        if selftraining:
            np.testing.assert_array_equal(found.pop(), np.concatenate([g[f"plab1_{k}"], g[f"plab2_{k}"]]))
        unlabelled = loss.terms.get("unlabelled", torch.zeros(())) * loss.weights["unlabelled"]
        labelled = loss.terms["supervised"] * loss.weights["supervised"]
        for value, official in zip(
            (loss.total, labelled, unlabelled, loss.terms["discrepancy"]), expected, strict=True
        ):
            close(value, official, rtol=1e-8)
    assert not found
    finals = [name for name in g if name.startswith(("final/", "final_bn/"))]
    assert finals
    for name in finals:
        close(ours(g, method, name.split("/", 1)[1]), g[name], rtol=1e-7, atol=1e-8)


def one_step(method, optimiser, batch, clock):
    for loss in method.step(batch, clock):
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        yield loss


def ours(g, method: Method, official: str) -> Tensor:
    """The tensor of the method that has this name in the official module."""
    branch = official.split(".")[0][-1]
    prefixes = (f"sd/encoder{branch}.", f"sd/decoder{branch}.")
    state = {name.removeprefix("sd/"): torch.from_numpy(g[name]) for name in g if name.startswith(prefixes)}
    marked = {name: torch.full_like(value, float(name == official)) for name, value in state.items()}
    (name,) = [name for name, value in import_official(marked).items() if bool(value.any())]
    return method.subnets[int(branch) - 1].state_dict()[name]
