"""Cross pseudo supervision against the official steps of two code bases."""

from __future__ import annotations

import pytest
import torch

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.losses import cross_entropy, dice_ce
from semiseg.ingredients.ramps import polynomial_decay, ramp_up
from stand_ins import StandIn, clock, close, labels, leaf, loss_of, make_method, tensor

RTOL = 1e-4
GRADIENT = {"rtol": 1e-3, "atol": 1e-8}


@pytest.fixture(scope="module")
def g():
    return golden("cps")


def step(g, at=None, **options):
    method = make_method("cps", g["logits_a"].shape, **options)
    nets = [StandIn(leaf(g[f"logits_{name}"], torch.float32)) for name in "ab"]
    for index, net in enumerate(nets):
        method.nets[index] = net
    batch = Batch(torch.ones(len(g["logits_a"]), 1, *g["logits_a"].shape[2:]), labels(g["labels"], channel=True))
    assert (batch.n, nets[0].clean.shape[1]) == (int(g["n_labelled"]), int(g["num_classes"]))
    loss = loss_of(method, batch, at)
    loss.total.backward()
    return loss, [net.clean.grad for net in nets]


def test_dhc_form(g):
    loss, gradients = step(g, loss="dhc", cross_on="all", weight=float(g["weight"]), ramp="none")
    close(loss.terms["supervised"], g["loss_sup"], RTOL)
    close(loss.terms["cross"], g["loss_cps"], RTOL)
    close(loss.total, g["loss"], RTOL)
    for gradient, name in zip(gradients, "ab", strict=True):
        close(gradient, g[f"grad_{name}"], **GRADIENT)


def test_pseudo_labels(g):
    a, b = (tensor(g[f"logits_{name}"], torch.float32) for name in "ab")
    pseudo = [labels(g[f"pseudo_{name}"], channel=True) for name in "ab"]
    assert torch.equal(a.argmax(1), pseudo[0])
    assert torch.equal(b.argmax(1), pseudo[1])
    close(cross_entropy(a, pseudo[1]) + cross_entropy(b, pseudo[0]), g["loss_cps"], RTOL)


def test_ssl4mis_form(g):
    ramp = {"ramp": "units150", "ramp_length": float(g["ssl4mis_rampup"])}
    at = clock(step=int(g["ssl4mis_iteration"]), steps=int(g["ssl4mis_sched_max_iterations"]))
    loss, gradients = step(g, at, weight=float(g["ssl4mis_weight_max"]), **ramp)
    close(loss.weights["cross"], g["ssl4mis_weight"], rtol=1e-12)
    close(loss.terms["supervised"], g["ssl4mis_loss1"] + g["ssl4mis_loss2"], RTOL)
    close(loss.terms["cross"], g["ssl4mis_pseudo_supervision1"] + g["ssl4mis_pseudo_supervision2"], RTOL)
    close(loss.total, g["ssl4mis_loss"], RTOL)
    for gradient, name in zip(gradients, "ab", strict=True):
        close(gradient, g[f"ssl4mis_grad_{name}"], **GRADIENT)


def test_ssl4mis_parts(g):
    n, target = int(g["n_labelled"]), labels(g["labels"], channel=True)
    a, b = (tensor(g[f"logits_{name}"], torch.float32) for name in "ab")
    for own, other, name in ((a, b, 1), (b, a, 2)):
        close(dice_ce(own[:n], target, "ssl4mis"), g[f"ssl4mis_loss{name}"], RTOL)
        close(cross_entropy(own[n:], other[n:].argmax(1)), g[f"ssl4mis_pseudo_supervision{name}"], RTOL)


def test_ssl4mis_schedules(g):
    steps, peak = int(g["ssl4mis_sched_max_iterations"]), float(g["ssl4mis_weight_max"])
    for i, iteration in enumerate(g["ssl4mis_sched_iterations"].tolist()):
        weight = peak * ramp_up(clock(step=iteration, steps=steps), "units150")
        close(weight, g["ssl4mis_sched_weight"][i], rtol=1e-12)
        close(0.01 * polynomial_decay(iteration, steps), g["ssl4mis_sched_lr_after_iteration"][i], rtol=1e-9)
