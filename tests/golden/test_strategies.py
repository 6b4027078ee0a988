"""Generic strategies of semi-supervised training against the official code that they come from."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from golden_files import golden
from semiseg.ingredients.confidence import entropy, low_entropy, monte_carlo_mean, probable, relative_entropy_limit
from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.losses import DiceForm
from semiseg.ingredients.masked import masked_parts, masked_probability_mse
from semiseg.ingredients.mixtures import centre_box, corner_box, mixup
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import sigmoid_ramp
from stand_ins import close, leaf, tensor

CLOSE = {"rtol": 1e-4, "atol": 1e-6}


@pytest.fixture(scope="module")
def g():
    return golden("strategies")


def iterations(g, pattern):
    found = sorted(int(match[1]) for key in g if (match := re.fullmatch(pattern, key)))
    assert found
    return found


def test_monte_carlo_selection(g):
    draws = iter(tensor(g["mc_logits_T_by_batch"]))
    passes, images = len(g["mc_logits_T_by_batch"]), torch.zeros_like(tensor(g["mc_teacher_logits"]))
    (mean,) = monte_carlo_mean(lambda _: [torch.cat([next(draws), next(draws)]).softmax(1)], images, passes)
    close(mean, g["mc_mean_prob"], **CLOSE)
    close(entropy(mean).unsqueeze(1), g["mc_uncertainty"], **CLOSE)
    n = len(g["mc_student_logits"]) - len(mean)
    target = tensor(g["mc_teacher_logits"]).softmax(1)
    for t in iterations(g, r"mc_threshold_it(\d+)"):
        limit = relative_entropy_limit(sigmoid_ramp(t, int(g["mc_max_iterations"])))
        close(limit * np.log(mean.shape[1]), g[f"mc_threshold_it{t}"], rtol=1e-9)
        keep = low_entropy(mean, limit)
        close(keep.double().mean(), g[f"mc_masked_fraction_it{t}"], **CLOSE)
        logits = leaf(g["mc_student_logits"])
        loss = masked_probability_mse(logits[n:], target, keep)
        close(loss, g[f"mc_loss_it{t}"], **CLOSE)
        loss.backward()
        close(logits.grad, g[f"mc_grad_it{t}"], **CLOSE)


def test_selection_of_ambiguous_voxels_by_entropy(g):
    logits = leaf(g["ent_student_logits"])
    target = tensor(g["ent_teacher_logits"]).softmax(1)
    unlabelled = logits[len(logits) - len(target) :]
    p = unlabelled.softmax(1)
    close(entropy(p) / np.log(p.shape[1]), g["ent_map"], **CLOSE)
    steps = iterations(g, r"ent_threshold_it(\d+)")
    for t in steps:
        limit = relative_entropy_limit(sigmoid_ramp(t, max(steps)), rise=0.2)
        close(limit, g[f"ent_threshold_it{t}"], rtol=1e-9)
        keep = low_entropy(p, limit, ambiguous=True)
        close(keep.double().mean(), g[f"ent_kept_fraction_high_it{t}"], **CLOSE)
        loss = masked_probability_mse(unlabelled, target, keep)
        close(loss, g[f"ent_loss_high_it{t}"], **CLOSE)
    for t in iterations(g, r"ent_grad_it(\d+)"):
        assert t == steps[-1]
        (gradient,) = torch.autograd.grad(loss, logits)
        close(gradient, g[f"ent_grad_it{t}"], **CLOSE)


def test_mixup(g):
    share = tensor(g["mixup_lambda"])
    for kind in ("image", "prob"):
        close(mixup(tensor(g[f"mixup_{kind}1"]), tensor(g[f"mixup_{kind}0"]), share), g[f"mixup_{kind}"], **CLOSE)


IMAGE = (112, 112, 80)
"""Sides for which the file's boxes were drawn; they are not in the file."""


def test_boxes_of_fixed_size(g):
    for i, row in enumerate(g["copypaste_boxes_ratio_2_3"]):
        rng = np.random.RandomState(int(g["copypaste_first_seed"]) + i)
        rooms = [side - int(side * 2 / 3) for side in IMAGE]
        # The middle of the share of [0, 1) that stands for the whole number.
        draws = torch.tensor([[(rng.randint(0, room) + 0.5) / room for room in rooms]])
        lower, upper = corner_box(IMAGE, 2 / 3, draws)
        np.testing.assert_array_equal(torch.cat([lower, upper], 1)[0].numpy(), row)


def test_boxes_of_cutmix(g):
    for i, (shown, boxes) in enumerate(zip(g["cutmix_lam"], g["cutmix_boxes"], strict=True)):
        rng = np.random.RandomState(int(g["cutmix_first_seed"]) + i)
        close(rng.beta(4, 4), shown, rtol=1e-12)
        pairs = boxes.shape[1]
        centres = [rng.randint(side // 8, side, size=pairs) for side in IMAGE]
        columns = [(c - s // 8 + 0.5) / (s - s // 8) for c, s in zip(centres, IMAGE, strict=True)]
        draws = torch.from_numpy(np.stack(columns, 1))
        lower, upper = centre_box(IMAGE, tensor(np.repeat(shown, pairs)), draws)
        np.testing.assert_array_equal(torch.cat([lower, upper], 1).T.numpy(), boxes)


def test_selection_by_probability(g):
    q, threshold = tensor(g["fixed_teacher_logits"]).softmax(1), float(g["fixed_threshold"])
    close(q.max(1).values, g["fixed_conf"], **CLOSE)
    pseudo, keep = hard_labels(q), probable(q, threshold)
    np.testing.assert_array_equal(pseudo.numpy(), g["fixed_pseudo"])
    logits = leaf(g["fixed_student_logits"])
    parts = masked_parts(logits, one_hot(pseudo, q.shape[1]), keep, dice=SQUARED)
    close(parts.ce, g["fixed_ce_mean_over_kept"], **CLOSE)
    close(parts.dice, g["fixed_dice"], **CLOSE)
    parts.dice.backward()
    close(logits.grad, g["fixed_dice_grad"], **CLOSE)


SQUARED = DiceForm(smooth=1e-5, squared=True, background=False, offset=1.0, scale=0.5)
