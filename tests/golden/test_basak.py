"""Basak et al. against two sequences of official steps, with one and two labelled samples."""

from __future__ import annotations

import pytest
import torch

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients import class_sampling
from semiseg.ingredients.class_performance import PENALTY, fuzzy_ranks
from stand_ins import StandIn, clock, close, labels, leaf, loss_of, make_method, tensor

RTOL = 1e-4
KINDS = ("b1", "b2")


@pytest.fixture(scope="module")
def g():
    return golden("basak")


def make(g, kind, **options):
    shape = g[f"{kind}_logits_student"].shape[1:]
    assert shape[1] == int(g["num_classes"])
    names = ("rate_exponent", "confidence_exponent", "momentum", "weight")
    numbers = {name: float(g[name]) for name in names} | {name: int(g[name]) for name in ("update_iter",)}
    return make_method("basak", shape, **numbers, kept=int(g["top_m"]), ramp="none", horizon=None, **options)


def run(g, kind, step, method):
    """Loss and the gradient of the student's logits."""
    method.student = StandIn(leaf(g[f"{kind}_logits_student"][step], torch.float32))
    method.teacher.net = StandIn(tensor(g[f"{kind}_logits_teacher"][step], torch.float32))
    target = labels(g[f"{kind}_labels"][step], channel=True)
    shape = method.student.clean.shape
    loss = loss_of(method, Batch(torch.ones(shape[0], 1, *shape[2:]), target), clock(step))
    loss.total.backward()
    return loss, method.student.clean.grad


@pytest.mark.parametrize("kind", KINDS)
def test_steps(g, kind, monkeypatch):
    method = make(g, kind)
    for step in range(len(g[f"{kind}_loss"])):
        uniform = tensor(g[f"{kind}_uniforms"][step], torch.float32)
        monkeypatch.setattr(class_sampling, "draw", lambda labels, given=uniform: given)
        loss, gradient = run(g, kind, step, method)
        for row, name in zip(method.performance.sums, ("entropy", "confidence", "variance"), strict=True):
            close(row, g[f"{kind}_{name}"][step], RTOL, atol=1e-6)
        close(method.observations()["performance"], g[f"{kind}_cc"][step], RTOL)
        close(method.observations()["rate"], g[f"{kind}_rate"][step], RTOL)
        close(loss.terms["supervised"], g[f"{kind}_loss_sup"][step], RTOL)
        close(loss.terms["unsupervised"], g[f"{kind}_loss_cps"][step], RTOL)
        close(loss.total, g[f"{kind}_loss"][step], RTOL)
        close(gradient, g[f"{kind}_grad_student"][step], rtol=1e-3, atol=1e-8)
        unlabelled = method.student.clean[-len(uniform) :]
        sure = (uniform - (1 - method.observations()["rate"][unlabelled.argmax(1)])).abs() > 1e-6
        close(method.sample(unlabelled)[sure], g[f"{kind}_mask"][step][sure.numpy()], RTOL)


def test_pairs_are_what_two_samples_differ_by(g):
    for kind in KINDS:
        method = make(g, kind, pairs=False)
        run(g, kind, 0, method)
        own = torch.allclose(method.performance.sums[1], tensor(g[f"{kind}_confidence"][0], torch.float32), RTOL)
        assert own == (g[f"{kind}_labels"].shape[1] == 1)


def test_ranks(g):
    assert float(g["penalty_rank"]) == PENALTY
    assert float(g["penalty_confidence"]) == 0
    ranks, rest = fuzzy_ranks(tensor(g["rank_input"]), int(g["top_m"]))
    close(ranks, g["rank_output"], RTOL)
    close(rest, g["cfs_output"], RTOL)
