"""DuCiSC with several classes: its official functions class against rest, put together again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from golden_files import golden
from level_stand_ins import DuciscCase, levels_of, logits_of
from semiseg.batches.batch import Batch
from semiseg.ingredients.levels import one_hot, resize_linear, resize_nearest
from semiseg.ingredients.masked import dice_ce_parts, masked_parts
from semiseg.ingredients.mixtures import mixup
from semiseg.ingredients.prototypes import prototype_loss, prototypes
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.methods.ducisc.thresholds import SelfAwareThresholds
from stand_ins import clock, close, labels, loss_of, tensor

CLOSE = {"rtol": 1e-4, "atol": 2e-5}
TERMS = {
    "supervised": "sup",
    "cs_ulb": "cs_ulb",
    "cs_mix": "cs_mix",
    "proto_ulb": "loss_proto",
    "proto_mix": "loss_mix_proto",
}
CASES = ["c4", "c4_absent"]


@pytest.fixture(scope="module")
def g():
    return golden("ducisc_c4")


def case(g, name, **options):
    found = DuciscCase(g, name, **options)
    found.method.selector.thresholds.value.copy_(tensor(found.array("T")))
    return found


def terms_of(found):
    label = labels(found.array("label"))
    batch = Batch(torch.ones(2 * len(label), 1, *label.shape[1:]), label)
    return loss_of(found.method, batch, clock(step=99)).terms


@pytest.mark.parametrize("name", CASES)
def test_terms_and_gradients(g, name):
    found = case(g, name)
    terms = terms_of(found)
    checked = 0
    for term, key in TERMS.items():
        close(terms[term], found.array(key), **CLOSE)
        prefix = f"{name}/grad_{'sup' if term == 'supervised' else term}"
        for each in sorted({k.removeprefix(f"{prefix}/").split("/")[0] for k in g if k.startswith(f"{prefix}/")}):
            kind, net = each.split("_")
            leaves = found.logits[net] if kind == "logits" else found.features[net][::-1]
            gradients = torch.autograd.grad(
                terms[term], leaves, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for k, gradient in zip(levels_of(g, f"{prefix}/{each}"), gradients, strict=True):
                close(gradient, g[k], **CLOSE)
                checked += 1
    assert checked


@pytest.mark.parametrize("name", CASES)
def test_coarsest_levels(g, name):
    numbers = [int(k.removeprefix(f"{name}/loss_proto_levels")) for k in g if k.startswith(f"{name}/loss_proto_levels")]
    assert numbers
    found = case(g, name)
    label, classes = labels(found.array("label")), int(found.array("num_classes"))
    logits, features = found.logits, found.features
    masks = {
        "lab": [one_hot(resize_nearest(label, z.shape[2:]), classes) for z in logits["lab"]],
        "unl": [one_hot(hard_labels(z), classes) for z in logits["teacher"]],
    }
    a, b = ([prototypes(f, m) for f, m in zip(features[k], masks[k], strict=True)] for k in ("lab", "unl"))
    for number in numbers:
        close(prototype_loss(a[:number], b[:number]), found.array(f"loss_proto_levels{number}"), **CLOSE)


@pytest.mark.parametrize("name", CASES)
def test_parts(g, name):
    found = case(g, name)
    label, classes = labels(found.array("label")), int(found.array("num_classes"))
    pseudo = [hard_labels(z) for z in found.logits["teacher"]]
    certain = [
        found.method.selector.thresholds.keep(level, z.softmax(1), y)
        for level, (z, y) in enumerate(zip(found.logits["teacher"], pseudo, strict=True))
    ]
    for level, (keep, y) in enumerate(zip(certain, pseudo, strict=True)):
        np.testing.assert_array_equal(y.numpy(), found.array(f"pseudo/{level}"))
        np.testing.assert_array_equal(keep.numpy(), found.array(f"certain/{level}").astype(bool))
    target = mixup(one_hot(label, classes), one_hot(pseudo[-1], classes), found.method.mixer.draw(label))
    close(target, found.array("y_mix"), **CLOSE)
    logits = found.logits
    sides = [z.shape[2:] for z in logits["lab"]]
    parts = {
        "sup": [dice_ce_parts(z, resize_nearest(label, s)) for z, s in zip(logits["lab"], sides, strict=True)],
        "cs_ulb": [
            masked_parts(z, one_hot(y, classes), m) for z, y, m in zip(logits["unl"], pseudo, certain, strict=True)
        ],
        "cs_mix": [
            masked_parts(z, resize_linear(target, s), m, "kl")
            for z, s, m in zip(logits["mix"], sides, certain, strict=True)
        ],
    }
    for key, found_parts in parts.items():
        for k, part in (("ce", "ce"), ("dice", "dice")):
            close(torch.stack([getattr(p, part) for p in found_parts]).mean(), found.array(f"{key}_{k}"), **CLOSE)
    masks = {
        "lab": [one_hot(resize_nearest(label, s), classes) for s in sides],
        "unl": [one_hot(y, classes) for y in pseudo],
        "mix": [resize_linear(target, s) for s in sides],
    }
    for net in found.PASSES:
        keys = levels_of(g, f"{name}/proto_{net}")[::-1]
        for f, mask, key in zip(found.features[net], masks[net], keys, strict=True):
            means, present = prototypes(f, mask)
            missing = ~present.all(0)
            close(torch.where(missing.unsqueeze(1), torch.nan, means.mean(0)), g[key], equal_nan=True, **CLOSE)


@pytest.mark.parametrize("group", ["thr_floor50", "thr_floor25"])
def test_thresholds(g, group):
    shared = "thr_floor50"
    wanted = g[f"{group}/T"]
    bounds = float(g[f"{group}/floor"]), float(g[f"{shared}/cap"])
    found = SelfAwareThresholds(wanted.shape[1], wanted.shape[2], float(g[f"{shared}/beta"]), bounds).double()
    close(found.value, wanted[0], **CLOSE)
    for t in range(len(wanted) - 1):
        for level, z in enumerate(logits_of(g, f"{shared}/step{t}/logits_unl")):
            found.update(level, z, labels(g[f"{shared}/step{t}/pseudo/{level}"]))
        close(found.value, wanted[t + 1], **CLOSE)
