"""DuCiSC with two classes against its official functions and the body of its training loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from golden_files import golden
from level_stand_ins import DuciscCase, features_of, levels_of, logits_of
from semiseg.batches.batch import Batch
from semiseg.ingredients.ema import ema_decay
from semiseg.ingredients.levels import one_hot, resize_linear, resize_nearest
from semiseg.ingredients.masked import BATCH_DICE
from semiseg.ingredients.mixtures import mixup
from semiseg.ingredients.prototypes import Prototypes, matching_score, prototypes
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.methods.base import entry
from semiseg.methods.ducisc.thresholds import SelfAwareThresholds
from stand_ins import clock, close, labels, loss_of, tensor

CLOSE = {"rtol": 1e-4, "atol": 2e-5}
TERMS = {
    "supervised": "loss_supervised",
    "cs_ulb": "loss_consistency",
    "cs_mix": "loss_mix",
    "proto_ulb": "loss_proto",
    "proto_mix": "loss_mix_proto",
}
STEPS = 15000
CASES = ["c2", "c2_warmup", "c2_fg_tiny", "c2_fg_absent", "c2_unl_bg_only", "c2_no_certain"]
FULL_GRADIENTS = ["c2", "c2_warmup"]


@pytest.fixture(scope="module")
def g():
    return golden("ducisc")


def case(g, name, **options):
    found = DuciscCase(g, name, **options)
    found.method.selector.thresholds.value.copy_(thresholds(g, name, "before"))
    return found


def thresholds(g, name, when):
    return torch.stack([tensor(g[f"{name}/T_{kind}_{when}"]) for kind in ("bg", "fg")])


def batch_of(found):
    label = labels(found.array("label"))
    return Batch(torch.ones(2 * len(label), 1, *label.shape[1:]), label)


def at(found):
    return clock(step=int(found.array("iter_num")), steps=STEPS)


def late():
    return clock(step=STEPS - 1, steps=STEPS)


def test_hyper_parameters(g):
    c = entry("ducisc-official").configure({})
    for name in ("proto_ulb", "proto_mix", "cs_ulb", "cs_mix"):
        close(getattr(c, f"weight_{name}"), g[f"hp/lambda_{name}"], rtol=1e-12)
    close(c.threshold_momentum, g["hp/beta"], rtol=1e-12)
    close(BATCH_DICE.smooth, g["hp/dice_eps"], rtol=1e-12)
    assert round(c.warmup * STEPS) == int(g["hp/warmup_iterations"])
    assert len(levels_of(g, "c2/logits_lab")) == int(g["hp/num_levels"])


@pytest.mark.parametrize("name", CASES)
def test_step(g, name):
    found = case(g, name)
    loss = loss_of(found.method, batch_of(found), at(found))
    for term, key in TERMS.items():
        close(loss.terms[term], np.nan_to_num(found.array(key)), **CLOSE)
    close(loss.total, found.array("loss"), **CLOSE)
    close(found.method.selector.thresholds.value, thresholds(g, name, "after"), **CLOSE)
    loss.total.backward()
    for key, leaves in (("logits", found.logits), ("feat", found.features)):
        for net in found.PASSES:
            norms = [0.0 if x.grad is None else x.grad.norm() for x in leaves[net]]
            order = 1 if key == "logits" else -1
            close(
                torch.tensor(norms)[::order] if order == 1 else torch.tensor(norms).flip(0),
                found.array(f"grad_total_norm/{key}_{net}"),
                **CLOSE,
            )


@pytest.mark.parametrize("name", CASES)
def test_plain_sum(g, name):
    found = case(g, name, total="sum")
    loss = loss_of(found.method, batch_of(found), late())
    wanted = found.array("loss_all")
    if np.isfinite(wanted):
        close(loss.total, wanted, **CLOSE)


@pytest.mark.parametrize("name", FULL_GRADIENTS)
def test_gradient_of_each_term(g, name):
    found = case(g, name)
    terms = loss_of(found.method, batch_of(found), late()).terms
    for term in TERMS:
        check_gradients(g, name, found, term, terms[term])


def check_gradients(g, name, found, term, value):
    prefix = f"{name}/grad_{'sup' if term == 'supervised' else term}"
    inputs = sorted({key.removeprefix(f"{prefix}/").split("/")[0] for key in g if key.startswith(f"{prefix}/")})
    assert inputs
    for each in inputs:
        kind, net = each.split("_")
        leaves = (found.logits if kind == "logits" else found.features)[net]
        keys = levels_of(g, f"{prefix}/{each}")
        gradients = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
        for key, gradient in zip(keys, gradients if kind == "logits" else gradients[::-1], strict=True):
            close(gradient, g[key], **CLOSE)


@pytest.mark.parametrize("name", CASES)
def test_certain_voxels(g, name):
    found = case(g, name)
    for level, key in enumerate(levels_of(g, f"{name}/certain")):
        q = found.logits["teacher"][level].softmax(1)
        pseudo = hard_labels(found.logits["teacher"][level])
        np.testing.assert_array_equal(pseudo.numpy(), g[f"{name}/pseudo/{level}"])
        np.testing.assert_array_equal(
            found.method.selector.thresholds.keep(level, q, pseudo).numpy(), g[key].astype(bool)
        )


@pytest.mark.parametrize("name", CASES)
def test_prototypes_and_mixed_labels(g, name):
    found = case(g, name)
    label, pseudo = labels(found.array("label")), [labels(g[k]) for k in levels_of(g, f"{name}/pseudo")]
    share = found.method.mixer.draw(label)
    target = mixup(one_hot(label, 2), one_hot(pseudo[-1], 2), share)
    close(target[:, 1], found.array("y_mix"), **CLOSE)
    corners = [tensor(found.array(f"x_{kind}_first8")).unsqueeze(1) for kind in ("lab", "unl", "mix")]
    close(mixup(corners[0], corners[1], share), corners[2], **CLOSE)
    for kind in found.PASSES:
        for f, y, wanted in zip(found.features[kind], pseudo, levels_of(g, f"{name}/proto_{kind}")[::-1], strict=True):
            sides = f.shape[2:]
            masks = {"lab": one_hot(resize_nearest(label, sides), 2), "unl": one_hot(y, 2)}
            mask = masks[kind] if kind in masks else resize_linear(target, sides)
            means, present = prototypes(f, mask)
            missing = ~present.all(0)
            close(torch.where(missing.unsqueeze(1), torch.nan, means.mean(0)), g[wanted], equal_nan=True, **CLOSE)


def test_thresholds_follow_the_student(g):
    group = "thr_c2"
    mean, wanted = g[f"{group}/P_avg"], g[f"{group}/T"]
    bounds = float(g[f"{group}/floor"]), float(g[f"{group}/cap"])
    found = SelfAwareThresholds(int(g[f"{group}/num_classes"]), mean.shape[2], float(g[f"{group}/beta"]), bounds)
    found.double().value.copy_(tensor(wanted[0]))
    for t in range(len(mean)):
        for level, z in enumerate(logits_of(g, f"{group}/step{t}/logits_unl")):
            found.update(level, z, labels(g[f"{group}/step{t}/pseudo/{level}"]))
        close(found.value, wanted[t + 1], **CLOSE)


def test_thresholds_meet_floor_and_cap(g):
    mean, wanted = g["thr_long/P_avg"], g["thr_long/T"]
    bounds = float(g["thr_c2/floor"]), float(g["thr_c2/cap"])
    found = SelfAwareThresholds(mean.shape[1], mean.shape[2], float(g["thr_c2/beta"]), bounds)
    close(found.value, wanted[0], **CLOSE)
    for t, row in enumerate(mean):
        for level in range(mean.shape[2]):
            found.follow(level, tensor(row[:, level]))
        close(found.value, wanted[t + 1], **CLOSE)


def test_matching_score(g):
    a, b = tensor(g["match/proto_lab"]), tensor(g["match/proto_unl"])
    here = [torch.ones(x.shape[:2], dtype=torch.bool) for x in (a, b)]
    close(matching_score(Prototypes(a, here[0]), Prototypes(b, here[1])), g["match/Q"], rtol=1e-6)
    pairs = [
        [
            [
                matching_score(
                    *(
                        Prototypes(x[n : n + 1, c : c + 1], h[n : n + 1, c : c + 1])
                        for x, h, n in ((a, here[0], i), (b, here[1], j))
                    )
                )
                for c in range(a.shape[1])
            ]
            for j in range(len(b))
        ]
        for i in range(len(a))
    ]
    close(torch.tensor(pairs), g["match/M"], rtol=1e-5)


def test_decay_of_the_teacher(g):
    decay = entry("ducisc-official").configure({}).decay
    close([ema_decay(step, decay) for step in g["ema/step"].tolist()], g["ema/decay_used"], rtol=1e-6)
    assert features_of(g, "c2/feat_lab")
