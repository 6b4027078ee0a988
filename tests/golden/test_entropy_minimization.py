"""Entropy minimisation against SSL4MIS and ADVENT: the term in all its forms, and whole steps."""

from __future__ import annotations

import math

import pytest
import torch

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.confidence import entropy
from semiseg.ingredients.losses import FORMS, cross_entropy, soft_dice
from semiseg.ingredients.ramps import polynomial_decay, ramp_up
from semiseg.methods.base import entry
from stand_ins import StandIn, clock, close, labels, leaf, loss_of, make_method, tensor

CLOSE = {"rtol": 1e-6, "atol": 1e-9}


@pytest.fixture(scope="module")
def g():
    return golden("entropy_minimization")


@pytest.mark.parametrize("case", ["random2d", "random3d", "uniform2d", "onehot2d"])
@pytest.mark.parametrize("name", ["entropy_loss", "entropy_minmization", "advent_entropy_loss"])
def test_entropies(g, case, name):
    if f"{case}/{name}" not in g:
        pytest.skip("the function of ADVENT takes slices only")
    p = leaf(g[f"{case}/p"])
    epsilon = float(g["advent_epsilon" if name.startswith("advent") else "epsilon"])
    value = entropy(p, epsilon).mean() / (
        1 if name == "entropy_minmization" else math.log(int(g[f"{case}/num_classes"]))
    )
    value.backward()
    close(value, g[f"{case}/{name}"], **CLOSE)
    close(p.grad, g[f"{case}/{name}_grad_p"], **CLOSE)


@pytest.mark.parametrize("case", ["random2d", "random3d", "uniform2d", "onehot2d"])
def test_maps(g, case):
    found = entropy(tensor(g[f"{case}/p"]), float(g["epsilon"])).unsqueeze(1)
    close(found, g[f"{case}/entropy_map"], **CLOSE)
    close(found / math.log(int(g[f"{case}/num_classes"])), g[f"{case}/entropy_loss_map"], **CLOSE)


@pytest.mark.parametrize("case", ["s2d", "s2d_all_background", "s3d"])
def test_steps(g, case):
    logits, n = leaf(g[f"{case}/logits"]), int(g[f"{case}/labeled_bs"])
    target = labels(g[f"{case}/labels"])[:n]
    method = make_method("entropy_minimization", logits.shape, ramp="units150", ramp_length=200)
    assert method.config.epsilon == float(g["epsilon"])
    method.net = StandIn(logits)
    batch = Batch(torch.ones(len(logits), 1, *logits.shape[2:]), target)
    loss = loss_of(method, batch, clock(step=int(g[f"{case}/iter_num"]), steps=int(g["sched_max_iterations"])))
    loss.total.backward()
    close(cross_entropy(logits[:n], target), g[f"{case}/loss_ce"], **CLOSE)
    close(soft_dice(logits[:n], target, FORMS["ssl4mis"]), g[f"{case}/loss_dice"], **CLOSE)
    close(loss.terms["entropy"], g[f"{case}/entropy"], **CLOSE)
    close(loss.weights["entropy"], g[f"{case}/weight"], **CLOSE)
    close(loss.total, g[f"{case}/loss"], **CLOSE)
    close(logits.grad, g[f"{case}/grad_logits"], **CLOSE)


def test_the_printed_form_is_of_unlabelled_patches_alone(g):
    logits, n = leaf(g["s2d/logits"]), int(g["s2d/labeled_bs"])
    method = make_method("entropy_minimization-paper", logits.shape)
    assert method.config.epsilon == float(g["advent_epsilon"])
    method.net = StandIn(logits)
    batch = Batch(torch.ones(len(logits), 1, *logits.shape[2:]), labels(g["s2d/labels"])[:n])
    loss_of(method, batch).terms["entropy"].backward()
    assert not logits.grad[:n].any()
    assert logits.grad[n:].any()


def test_schedules(g):
    steps, lr = int(g["sched_max_iterations"]), float(g["sched_base_lr"])
    weight = entry("entropy_minimization").configure({}).weight
    for i, step in enumerate(g["sched_iter"].tolist()):
        close(lr * polynomial_decay(step, steps), g["sched_lr"][i], rtol=1e-6)
        close(weight * ramp_up(clock(step=step, steps=steps), "units150"), g["sched_consistency_weight"][i], rtol=1e-6)
