"""CLD against six consecutive official steps."""

from __future__ import annotations

import pytest
import torch

from golden_files import golden
from semiseg.ingredients import class_sampling
from semiseg.ingredients.class_weights import inverse_roots
from semiseg.ingredients.pseudo_labels import hard_labels
from stand_ins import close, make_method, run_pair_step, tensor

RTOL = 1e-4


@pytest.fixture(scope="module")
def g():
    return golden("cld")


def make(g):
    names = ("momentum", "rate_exponent", "weight")
    options = {name: float(g[name]) for name in names} | {"update_iter": int(g["update_iter"]), "ramp": "none"}
    method = make_method("cld", g["logits_a"].shape[1:], g["label_counts"].tolist(), **options)
    for confidence in method.confidence:
        confidence.value.copy_(tensor(g["confidence_initial"]))
    return method


def test_class_weights(g):
    close(make(g).class_weights.weight, g["class_weight"], RTOL)
    close(inverse_roots(tensor(g["label_counts"], torch.float32)), g["class_weight"], RTOL)


def test_both_networks_start_with_one_draw(g):
    method = make_method("cld", g["logits_a"].shape[1:])
    a, b = (confidence.value for confidence in method.confidence)
    assert torch.equal(a, b)
    assert len(a.unique()) == int(g["num_classes"])


def test_steps(g, monkeypatch):
    method = make(g)
    for step in range(len(g["loss"])):
        uniforms = [tensor(g[f"uniform_{name}"][step], torch.float32) for name in "ab"]
        monkeypatch.setattr(class_sampling, "draw", lambda labels, left=uniforms: left.pop(0))
        loss, gradients = run_pair_step(method, g, step)
        assert not uniforms
        close(loss.terms["supervised"], g["loss_sup"][step], RTOL)
        close(loss.terms["cross"], g["loss_cps"][step], RTOL)
        close(loss.total, g["loss"][step], RTOL)
        for name in "ab":
            close(method.observations()[f"confidence_{name}"], g[f"confidence_{name}"][step], RTOL)
            close(method.observations()[f"rate_{name}"], g[f"rate_{name}"][step], RTOL)
    for name, gradient in zip("ab", gradients, strict=True):
        close(gradient, g[f"last_grad_{name}"], rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("name", ["a", "b"])
def test_masks(g, monkeypatch, name):
    for step, mask in enumerate(g[f"mask_{name}"]):
        uniform = tensor(g[f"uniform_{name}"][step], torch.float32)
        predicted = hard_labels(tensor(g[f"logits_{name}"][step]))
        rates = tensor(g[f"rate_{name}"][step], torch.float32)
        monkeypatch.setattr(class_sampling, "draw", lambda labels, given=uniform: given)
        sure = (uniform - (1 - rates[predicted])).abs() > 1e-6
        found = class_sampling.sampled(predicted, rates)
        assert torch.equal(found[sure], tensor(mask, torch.bool)[sure])
