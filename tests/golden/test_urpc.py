"""URPC against its official steps and network."""

from __future__ import annotations

import pytest
import torch

from golden_files import golden
from level_stand_ins import LevelStandIn
from semiseg.batches.batch import Batch
from semiseg.ingredients.pyramid import rectified_consistency, spread
from semiseg.methods.base import Task, entry
from semiseg.networks import build_network
from semiseg.networks.import_weights import load_state
from stand_ins import clock, close, labels, leaf, loss_of, tensor

RTOL = 1e-4
GRADIENT = {"rtol": 1e-3, "atol": 1e-8}


@pytest.fixture(scope="module")
def g():
    return golden("urpc")


def heads_of(g, case=""):
    """Logits of the heads, finest first as in the file."""
    if case == "same_":
        return [leaf(g["logits_same"], torch.float32) for _ in g["logits_heads"]]
    return [leaf(z, torch.float32) for z in g["logits_heads"]]


def step(g, heads, target, at=None, **options):
    shape = heads[0].shape
    task = Task(int(g["num_classes"]), 1, len(shape) - 2, (1,) * shape[1])
    method = entry("urpc").build(options, task, lambda **_: LevelStandIn((heads[::-1], [])))
    batch = Batch(torch.ones(shape[0], 1, *shape[2:]), target)
    assert batch.n == int(g["n_labelled"])
    loss = loss_of(method, batch, at)
    loss.total.backward()
    return loss


@pytest.mark.parametrize("case", ["", "same_"])
def test_dhc_step(g, case):
    heads, target = heads_of(g, case), labels(g["labels"], channel=True)
    target = torch.zeros_like(target) if case else target
    loss = step(g, heads, target, loss="dhc_half", weight=float(g["weight"]), ramp="none", scales=len(heads))
    close(loss.terms["supervised"], g[f"{case}supervised_loss"], RTOL)
    close(loss.terms["consistency"], g[f"{case}consistency_loss"], RTOL, atol=1e-7)
    close(loss.total, g[f"{case}loss"], RTOL)
    for head, expected in zip(heads, g[f"{case}grad_heads"], strict=True):
        close(head.grad, expected, **GRADIENT)


@pytest.mark.parametrize("case", ["", "same_"])
def test_variance_and_consistency_per_head(g, case):
    found = spread([z[int(g["n_labelled"]) :].double() for z in heads_of(g, case)])
    close(torch.stack(found.variance).unsqueeze(2), g[f"{case}variance"], RTOL, atol=2e-7)
    close(rectified_consistency(found), g[f"{case}consistency_per_head"], RTOL, atol=1e-7)


def test_ssl4mis_step(g):
    heads = heads_of(g)
    ramp = {"ramp": "units150", "ramp_length": float(g["ssl4mis_rampup"])}
    at = clock(step=int(g["ssl4mis_iteration"]), steps=10**6)
    loss = step(
        g,
        heads,
        labels(g["labels"], channel=True),
        at,
        weight=float(g["ssl4mis_weight_max"]),
        scales=len(heads),
        **ramp,
    )
    close(loss.weights["consistency"], g["ssl4mis_weight"], rtol=1e-9)
    close(loss.terms["supervised"], g["ssl4mis_supervised_loss"], RTOL)
    close(loss.terms["consistency"], g["ssl4mis_consistency_loss"], RTOL)
    close(loss.total, g["ssl4mis_loss"], RTOL)
    for head, expected in zip(heads, g["ssl4mis_grad_heads"], strict=True):
        close(head.grad, expected, **GRADIENT)


def method_on_unet3d(g, **options):
    images, classes = g["net_input"], int(g["num_classes"])
    task = Task(classes, images.shape[1], images.ndim - 2, (1,) * classes)

    def build(**more):
        every = {"channels": task.channels, "classes": classes, "spatial_dims": task.spatial_dims}
        return build_network("unet3d", **{**every, **options, **more})

    return entry("urpc").build({}, task, build)


def test_network(g):
    method = method_on_unet3d(g, filters=tuple(g["net_widths"].tolist()))
    state = {key.removeprefix("net."): tensor(value) for key, value in g.items() if key.startswith("net.")}
    load_state(method.net, method.net.own_names(state), "golden")
    with torch.no_grad():
        heads = method.double().eval()._pyramid(tensor(g["net_input"]))
    for number, logits in enumerate(reversed(heads)):
        sub = (slice(None), slice(None), *(slice(None, None, 4),) * (logits.ndim - 2))
        close(logits[sub], g[f"net_out{number}_sub"], rtol=1e-3, atol=1e-5)
    assert f"net_out{len(heads)}_sub" not in g


@pytest.mark.parametrize("classes", [14, 16])
def test_parameters(g, classes):
    with torch.device("meta"):
        net = build_network("unet3d", channels=1, classes=classes, spatial_dims=3, deep_supervision=True)
    assert sum(p.numel() for p in net.parameters()) == int(g[f"net_n_params_{classes}cls_w16"])
