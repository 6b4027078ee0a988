"""DePL against three consecutive official steps."""

from __future__ import annotations

import pytest
import torch

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.prior import PredictionPrior
from semiseg.ingredients.pseudo_labels import confident_labels
from stand_ins import StandIn, clock, close, labels, leaf, loss_of, make_method, tensor

RTOL = 1e-4
GRADIENT = {"rtol": 1e-3, "atol": 1e-8}


@pytest.fixture(scope="module")
def g():
    return golden("depl")


def test_steps(g):
    shape, n = g["logits_a"].shape[1:], int(g["n_labelled"])
    numbers = {key: float(g[key]) for key in ("tau", "momentum", "threshold", "weight")}
    method = make_method("depl", shape, ramp="none", **numbers)
    for prior in method.priors:
        close(prior.value.expand(g["qhat_initial"].shape), g["qhat_initial"], RTOL)
    for step in range(len(g["loss"])):
        nets = [StandIn(leaf(g[f"logits_{name}"][step], torch.float32)) for name in "ab"]
        for index, (net, name) in enumerate(zip(nets, "ab", strict=True)):
            method.nets[index] = net
            confidence, target = confident_labels(net.clean - method.priors[index].bias(numbers["tau"]))
            assert torch.equal(target, labels(g[f"target_{name}"][step]))
            sure = (confidence - numbers["threshold"]).abs() > 1e-5
            keep = confidence >= numbers["threshold"]
            assert torch.equal(keep[sure], labels(g[f"mask_{name}"][step]).bool()[sure])
        target = labels(g["labels"][step], channel=True)
        assert len(target) == n
        loss = loss_of(method, Batch(torch.ones(shape[0], 1, *shape[2:]), target), clock(step))
        loss.total.backward()
        close(loss.terms["supervised"], g["loss_sup"][step], RTOL)
        close(loss.terms["cross"], g["loss_cps"][step], RTOL)
        close(loss.total, g["loss"][step], RTOL)
        for net, prior, name in zip(nets, method.priors, "ab", strict=True):
            close(net.clean.grad, g[f"grad_{name}"][step], **GRADIENT)
            close(prior.value, g[f"qhat_{name}"][step], RTOL)


def test_prior_per_class(g):
    shape, n = g["logits_a"].shape[1:], int(g["n_labelled"])
    prior = PredictionPrior(shape[1], len(shape) - 2, "class", float(g["momentum"])).double()
    sequence = g["classwise_qhat_seq"]
    for row in range(len(sequence)):
        prior.update(tensor(g["logits_a"][row % len(g["logits_a"])])[n:])
        close(prior.value.flatten(), sequence[row], RTOL)
    logits = tensor(g["logits_a"][0])
    for key, tau in (("classwise_debiased", 1.0), ("classwise_debiased_tau_half", 0.5)):
        close((logits - prior.bias(tau)).softmax(1), g[key], RTOL, atol=1e-7)
