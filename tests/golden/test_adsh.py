"""Adsh against two sequences of official steps, with banks of odd and of even capacity."""

from __future__ import annotations

import pytest
import torch

from golden_files import golden
from semiseg.ingredients.adaptive_thresholds import AdaptiveThresholds
from semiseg.ingredients.score_histogram import BINS
from semiseg.methods.adsh import above
from stand_ins import close, make_method, run_pair_step, tensor

RTOL = 1e-4


@pytest.fixture(scope="module")
def g():
    return golden("adsh")


def make(g, kind, **options):
    shape = g[f"{kind}_logits_a"].shape[1:]
    assert shape[1] == int(g["num_classes"])
    numbers = {"majority": float(g["thresh_major"]), "weight": float(g["weight"]), "ramp": "none"}
    return make_method("adsh", shape, **numbers, capacity=int(g[f"{kind}_capacity"]), **options)


@pytest.mark.parametrize("kind", ["odd", "even"])
def test_steps(g, kind):
    method, n = make(g, kind, exact=True), int(g["n_labelled"])
    count = len(g[f"{kind}_loss"])
    for step in range(count):
        loss, gradients = run_pair_step(method, g, step, f"{kind}_")
        close(loss.terms["supervised"], g[f"{kind}_loss_sup"][step], RTOL)
        close(loss.terms["cross"], g[f"{kind}_loss_cps"][step], RTOL)
        close(loss.total, g[f"{kind}_loss"][step], RTOL)
        for name, bank in zip("ab", method.thresholds, strict=True):
            close(method.observations()[f"threshold_{name}"], g[f"{kind}_thresholds_{name}"][step], RTOL)
            assert bank.buffered(step, n) == g[f"{kind}_buffered"][step]
    for name, gradient in zip("ab", gradients, strict=True):
        close(gradient, g[f"{kind}_last_grad_{name}"], rtol=1e-3, atol=1e-8)
        p = tensor(g[f"{kind}_logits_{name}"][count - 1], torch.float32).softmax(1)
        limit = tensor(g[f"{kind}_thresholds_{name}"][count - 1], torch.float32)
        sure = (p - limit.view(-1, *(1,) * (p.ndim - 2))).abs() > 1e-6
        assert torch.equal(above(p, limit)[sure], tensor(g[f"{kind}_last_mask_{name}"], torch.bool)[sure])


@pytest.mark.parametrize("kind", ["odd", "even"])
def test_thresholds_from_bins(g, kind):
    method = make(g, kind)
    for step in range(len(g[f"{kind}_loss"])):
        run_pair_step(method, g, step, f"{kind}_")
        for name in "ab":
            found, wanted = method.observations()[f"threshold_{name}"], g[f"{kind}_thresholds_{name}"][step]
            close(found, wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("exact", "atol"), [(True, 1e-7), (False, 1 / BINS)])
def test_flat_scores(g, exact, atol):
    p = tensor(g["flat_logits"], torch.float32).softmax(1)
    bank = AdaptiveThresholds(p.shape[1], len(p), float(g["thresh_major"]), exact=exact)
    for step in range(2):
        found = bank.update(p, step)
    close(found, g["flat_thresholds"], RTOL, atol)
    if not exact:
        highest = p.movedim(1, 0).flatten(1).max(1).values
        assert (found >= highest).all(), "strictly above the largest score there is nothing"
