"""MCF against its official steps, through the method's own `step`, and its residual encoder."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
import torch

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.losses import FORMS, cross_entropy, soft_dice
from semiseg.ingredients.masked import masked_probability_mse
from semiseg.networks import build_network
from semiseg.networks.base import Tap
from semiseg.networks.resnet import _Encoder
from semiseg.settings.run import OptimiserConfig
from semiseg.training.optim import learning_rate
from stand_ins import StandIn, clock, close, labels, leaf, loss_of, make_method, tensor

CLOSE = {"rtol": 1e-6, "atol": 1e-9}


@pytest.fixture(scope="module")
def g():
    return golden("mcf")


@pytest.mark.parametrize("case", ["a_better", "b_better", "no_disagreement", "all_background"])
def test_steps(g, case):
    v = {key.removeprefix(f"{case}/"): value for key, value in g.items() if key.startswith(f"{case}/")}
    logits, n = [leaf(v[f"{k}_logits"]) for k in "ab"], int(v["labeled_bs"])
    target = labels(v["labels"])[:n]
    method = make_method("mcf", logits[0].shape, ramp="units150", ramp_length=40, temperature=float(v["temperature"]))
    for k, z in enumerate(logits):
        method.nets[k] = StandIn(z)
    batch = Batch(torch.ones(len(logits[0]), 1, *logits[0].shape[2:]), target)
    loss = loss_of(method, batch, clock(step=int(v["iter_num"]), steps=6000))
    loss.total.backward()
    differ = logits[0][:n].argmax(1) != logits[1][:n].argmax(1)
    np.testing.assert_array_equal(differ, v["diff_mask"].astype(bool))
    for k, z in zip("ab", logits, strict=True):
        parts = [cross_entropy(z[:n], target), soft_dice(z[:n], target, FORMS["la"])]
        review = masked_probability_mse(z[:n], one_hot(target, z.shape[1]), differ)
        for part, name in zip([*parts, review], ("ce", "dice", "mse"), strict=True):
            close(part, v[f"{k}_{name}"], **CLOSE)
        close(parts[0] + parts[1] + 0.5 * review, v[f"{k}_supervised"], **CLOSE)
        close(z.grad, v[f"grad_{k}_logits"], **CLOSE)
    good = logits[int(v["good_student"])]
    close((good[n:] / float(v["temperature"])).softmax(1), v["pseudo_label"], **CLOSE)
    close(loss.terms["pseudo"], v["consistency_loss_of_the_weaker"], **CLOSE)
    close(loss.weights["pseudo"], v["weight"], **CLOSE)
    close(loss.total, float(v["a_loss"]) + float(v["b_loss"]), **CLOSE)


def test_schedules(g):
    c = make_method("mcf", (1, 2, 4, 4, 4), ramp="units150", ramp_length=40).config
    for step, weight in zip(g["weight_iter"].tolist(), g["weight"], strict=True):
        close(c.weight * c.ramp_up(clock(step=step, steps=6000)), weight, **CLOSE)
    sgd = OptimiserConfig(name="sgd", lr=0.01, schedule="step", every=2500, factor=0.1)
    for step, lr in zip(g["sched_iter"].tolist(), g["sched_lr_after"], strict=True):
        # The official rule is applied after the update, from which on the next one has the rate.
        close(learning_rate(sgd, step, 6000), lr, rtol=1e-9)


def test_networks(g):
    build = partial(build_network, "vnet", channels=1, classes=2, spatial_dims=3)
    net = build(network="resnet", init="kaiming")
    assert sum(p.numel() for p in net.parameters()) == int(g["n_params_resnet34"])
    assert sum(p.numel() for p in build().parameters()) == int(g["n_params_vnet"])
    with torch.no_grad():
        features = net.eval().encoder(torch.zeros(1, 1, 32, 32, 16))
    assert [[f.shape[1], *f.shape[2:]] for f in features] == g["resnet_feature_shapes_for_32_32_16"].tolist()
    close(net.encoder.stages[0][0].second.norm.weight, g["resnet_bn2_weight_after_init"], rtol=0)


NAMES = {"bn1": "first.norm", "conv1": "first.conv", "bn2": "second.norm", "conv2": "second.conv"}
NAMES |= {"downsample.0": "shortcut.conv", "downsample.1": "shortcut.norm"}


def test_encoder(g):
    read = {key.removeprefix("enc/w/"): tensor(g[key], torch.float32) for key in g if key.startswith("enc/w/")}
    deepest = {int(k): 0 for k in range(1, 5)}
    state = {}
    for key, value in read.items():
        found = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)\.(\w+)", key)
        if found:
            layer, block, part, what = found.groups()
            deepest[int(layer)] = max(deepest[int(layer)], int(block) + 1)
            state[f"stages.{int(layer) - 1}.{block}.{NAMES[part]}.{what}"] = value
        else:
            part, what = key.split(".")
            state[f"stem.{'conv' if part == 'conv1' else 'norm'}.{what}"] = value
    x = tensor(g["enc/x"], torch.float32)
    expected = [tensor(g[f"enc/f{k}"], torch.float32) for k in range(5)]
    stages = [Tap(f.shape[1], (2**k,) * 3) for k, f in enumerate(expected)]
    encoder = _Encoder(x.shape[1], stages, tuple(deepest.values())).eval()
    state |= {key: value for key, value in encoder.state_dict().items() if key.endswith("num_batches_tracked")}
    encoder.load_state_dict(state)
    with torch.no_grad():
        features = encoder(x)
    close(features[0][..., ::4, ::4, ::4], expected[0], rtol=1e-4, atol=1e-6)
    for found, wanted in zip(features[1:], expected[1:], strict=True):
        close(found, wanted, rtol=1e-4, atol=1e-6)
