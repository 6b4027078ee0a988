"""DuCiSC over several optimiser steps of the official network, in float64."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from golden_files import golden
from level_stand_ins import GivenShare, levels_of
from semiseg.batches.batch import Batch
from semiseg.ingredients.levels import level_taps, run_levels
from semiseg.methods.base import Task, entry
from semiseg.networks import build_network
from semiseg.networks.import_weights import import_official
from stand_ins import clock, close, labels, tensor

TOLERANCE = {"rtol": 0.0, "atol": 1e-3}
STEPS = 15000
TERMS = {
    "supervised": "loss_supervised",
    "cs_ulb": "loss_consistency",
    "cs_mix": "loss_mix",
    "proto_ulb": "loss_proto",
    "proto_mix": "loss_mix_proto",
}


@pytest.fixture(scope="module")
def g():
    return golden("ducisc_traj")


def builder(g):
    image = g["image"]
    return partial(
        build_network,
        "vnet",
        channels=image.shape[1],
        classes=g["fwd_logits/0"].shape[1],
        spatial_dims=image.ndim - 2,
        filters=int(g["n_filters"]),
        dropout=0.0,
    )


def start(g, net, which):
    prefix = f"{which}/"
    found = net.load_state_dict(official(g, prefix), strict=False)
    assert not found.unexpected_keys
    assert all("running" in name or "num_batches" in name for name in found.missing_keys)


def official(g, prefix):
    return import_official({name.removeprefix(prefix): tensor(g[name]) for name in g if name.startswith(prefix)})


def layers(g):
    """What the key map needs to count the layers of a block."""
    return {n.removeprefix("student0/"): tensor(g[n]) for n in g if n.startswith("student0/") and g[n].ndim > 1}


def test_network(g):
    net = builder(g)(deep_supervision=True).double().train()
    start(g, net, "student0")
    images, n = tensor(g["image"]), len(g["fwd_logits/0"])
    found = run_levels(net, images[:n], level_taps(net.taps))
    for logits, key in zip(found.logits, levels_of(g, "fwd_logits"), strict=True):
        close(logits, g[key], rtol=1e-4, atol=2e-5)
    for feature, key in zip(found.features[::-1], levels_of(g, "fwd_feat_mean"), strict=True):
        close(feature.flatten(2).mean(2), g[key], rtol=1e-6)
    thinned = net.eval()(images[:n])[(..., *(slice(None, None, 4),) * (images.ndim - 2))]
    close(thinned, g["fwd_eval_logits_last_sub4"], rtol=1e-5, atol=1e-7)


def make(g):
    image, classes = g["image"], g["fwd_logits/0"].shape[1]
    task = Task(classes, image.shape[1], image.ndim - 2, (1,) * classes)
    method = entry("ducisc-official").build({"decay": float(g["ema_decay"])}, task, builder(g)).double().train()
    start(g, method.student, "student0")
    start(g, method.teacher.net, "teacher0")
    return method


def norm_of(values):
    return torch.cat([value.detach().flatten() for value in values]).norm()


def test_trajectory(g):
    method, n = make(g), len(g["fwd_logits/0"])
    batch = Batch(tensor(g["image"]), labels(g["label"])[:n])
    optimiser = torch.optim.SGD(
        method.student.parameters(),
        lr=float(g["lr"]),
        momentum=float(g["momentum"]),
        weight_decay=float(g["weight_decay"]),
    )
    check_thresholds(g, method, 0)
    for t, iteration in enumerate(g["iter_num"].tolist()):
        method.mixer = GivenShare(tensor(g["sigma"][t]))
        steps = method.step(batch, clock(step=iteration, steps=STEPS))
        loss = next(steps)
        optimiser.zero_grad()
        loss.total.backward()
        close(norm_of(p.grad for p in method.student.parameters()), g["grad_norm"][t], rtol=1e-4, atol=1e-3)
        optimiser.step()
        assert next(steps, None) is None
        for term, key in TERMS.items():
            close(loss.terms[term], g[key][t], **TOLERANCE)
        close(loss.total, g["loss"][t], **TOLERANCE)
        check_thresholds(g, method, t + 1)
        close(norm_of(method.student.parameters()), g["student_norm"][t], **TOLERANCE)
        close(norm_of(method.teacher.parameters()), g["teacher_norm"][t], **TOLERANCE)
    check_end(g, method)


def check_thresholds(g, method, t):
    wanted = np.stack([g["T_bg"][t], g["T_fg"][t]])
    close(method.selector.thresholds.value, wanted, **TOLERANCE)


def check_end(g, method):
    student, teacher = dict(method.student.named_parameters()), dict(method.teacher.net.named_parameters())
    for kind, net, measure in (
        ("student_end_sum", student, torch.sum),
        ("student_end_norm", student, torch.norm),
        ("teacher_end_norm", teacher, torch.norm),
    ):
        ours = own_names(g, kind)
        assert set(ours.values()) == set(net)
        for official_name, name in ours.items():
            close(measure(net[name].detach()), g[f"{kind}/{official_name}"], **TOLERANCE)
    buffers = dict(method.student.named_buffers())
    for official_name, name in own_names(g, "student_end_buffer").items():
        close(buffers[name], g[f"student_end_buffer/{official_name}"], **TOLERANCE)


def own_names(g, kind):
    """Our name of each official one."""
    return {name: own_name(layers(g), name) for key in g if (name := key.removeprefix(f"{kind}/")) != key}


def own_name(known, name):
    mark = torch.zeros_like(known[name]) if name in known else torch.zeros(1)
    return next(ours for ours, value in import_official(known | {name: mark}).items() if value is mark)
