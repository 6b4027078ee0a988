"""SimiS against four consecutive official steps."""

from __future__ import annotations

import pytest
import torch

from golden_files import golden
from semiseg.ingredients.class_sums import class_counts
from semiseg.ingredients.class_weights import majority_distance
from semiseg.ingredients.pseudo_labels import hard_labels
from stand_ins import close, make_method, run_pair_step, tensor

RTOL = 1e-4


@pytest.fixture(scope="module")
def g():
    return golden("simis")


def make(g):
    shape = g["logits_a"].shape[1:]
    assert shape[1] == int(g["num_classes"])
    return make_method(
        "simis",
        shape,
        g["label_counts"].tolist(),
        ramp="none",
        weight=float(g["weight"]),
        momentum=float(g["momentum"]),
    )


def test_map_of_counts(g):
    for counts, expected in zip(g["raw_counts"], g["raw_weights"], strict=True):
        close(majority_distance(tensor(counts, torch.float32)), expected, RTOL, atol=1e-7)


def test_initial_weights(g):
    for weights in make(g).class_weights:
        close(weights.weight, g["initial_weights"], RTOL)


def test_steps(g):
    method, n, classes = make(g), int(g["n_labelled"]), int(g["num_classes"])
    for step in range(len(g["loss"])):
        predicted = hard_labels(tensor(g["logits_a"][step]))
        assert class_counts(predicted, classes).tolist() == g["counts_all_a"][step].tolist()
        assert class_counts(predicted[n:], classes).tolist() == g["counts_unlabelled_a"][step].tolist()
        loss, gradients = run_pair_step(method, g, step)
        close(loss.terms["supervised"], g["loss_sup"][step], RTOL)
        close(loss.terms["cross"], g["loss_cps"][step], RTOL, atol=1e-7)
        close(loss.total, g["loss"][step], RTOL)
        for name, gradient in zip("ab", gradients, strict=True):
            close(method.observations()[f"class_weight_{name}"], g[f"weights_{name}"][step], RTOL)
            close(gradient, g[f"grad_{name}"][step], rtol=1e-3, atol=1e-8)
