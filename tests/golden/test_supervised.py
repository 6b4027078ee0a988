"""Supervised losses, the shared schedules and the initialisations against official values."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.losses import FORMS, cross_entropy, dice_ce, hard_dice, soft_dice
from semiseg.ingredients.ramps import lagged, polynomial_decay, ramp_up
from semiseg.networks import build_network
from stand_ins import StandIn, clock, close, labels, leaf, loss_of, make_method, tensor

RTOL = 1e-4
GRADIENT = {"rtol": 1e-3, "atol": 1e-8}


@pytest.fixture(scope="module")
def g():
    return golden("supervised")


def functions(g):
    w = tensor(g["class_weight"], torch.float32)
    train = replace(FORMS["dhc"], smooth=float(g["dice_smooth_train"]))
    return {
        "dc_ce": dice_ce,
        "dc_ce_weighted": lambda z, t: dice_ce(z, t, "dhc", w),
        "dc_wce": lambda z, t: cross_entropy(z, t, w) + soft_dice(z, t),
        "ce": cross_entropy,
        "ce_weighted": lambda z, t: cross_entropy(z, t, w),
        "dice_softmax_smooth1": lambda z, t: soft_dice(z, t, train),
        "dice_prob_smooth1em8": lambda z, t: soft_dice(z, t, replace(train, smooth=1e-8)),
    }


@pytest.mark.parametrize("prefix", ["", "bg_"])
def test_dhc_losses(g, prefix):
    target = labels(g["labels"], channel=True)
    assert not (target == int(g["absent_class"])).any()
    if prefix:
        target = torch.zeros_like(target)
    for name, function in functions(g).items():
        logits = leaf(g["logits"], torch.float32)
        loss = function(logits, target)
        loss.backward()
        close(loss, g[prefix + name], RTOL)
        close(logits.grad, g[f"{prefix}{name}_grad"], **GRADIENT)


@pytest.mark.parametrize(
    ("form", "key"), [("dhc", "dc_ce"), ("ssl4mis", "ssl4mis_half_ce_dice"), ("la", "la_half_ce_dice")]
)
def test_step_of_every_form(g, form, key):
    logits = leaf(g["logits"] if form != "la" else g["logits"][:, :2], torch.float32)
    target = labels(g["la_labels"]) if form == "la" else labels(g["labels"], channel=True)
    method = make_method("supervised", logits.shape, loss=form)
    method.net = StandIn(logits)
    loss = loss_of(method, Batch(torch.ones(len(logits), 1, *logits.shape[2:]), target)).total
    loss.backward()
    close(loss, g[key], RTOL)
    close(logits.grad, g[f"{key}_grad"], **GRADIENT)


def test_validation_dice(g):
    predicted, target = (labels(g[f"val_{name}"], channel=True) for name in ("pred", "true"))
    close(hard_dice(predicted, target, int(g["num_classes"]))[1:], g["val_dice"], RTOL)


def test_schedules(g):
    last, lr, peak = int(g["sched_max_epoch"]), float(g["sched_base_lr"]), float(g["sched_weight"])
    for epoch in range(last + 1):
        close(lr * polynomial_decay(lagged(epoch), last), g["sched_lr_used_in_epoch"][epoch], RTOL)
        weight = peak * ramp_up(clock(epoch=epoch, epochs=last + 1), "epochs")
        close(weight, g["sched_weight_used_in_epoch"][epoch], RTOL)


@pytest.mark.parametrize("init", ["kaiming", "xavier"])
def test_initialisation(g, init):
    torch.manual_seed(0)
    net = build_network(
        "vnet", channels=1, classes=int(g["num_classes"]), spatial_dims=3, filters=8, normalisation="batch", init=init
    )
    for layer, side, tolerance in (("block_six_conv0", 3, 0.03), ("out_conv", 1, 0.3)):
        stds = [_std(m) for m in net.modules() if isinstance(m, torch.nn.Conv3d) and _fits(m, side, g)]
        close(stds[-1], g[f"init_{init}_std_{layer}"], rtol=tolerance)


def _std(conv):
    return conv.weight.detach().std()


def _fits(conv, side, g):
    """The head, or a 3x3x3 convolution among the 64 channels of width 8's stage at stride 8."""
    wanted = (64, 64) if side == 3 else (8, int(g["num_classes"]))
    return conv.kernel_size == (side,) * 3 and (conv.in_channels, conv.out_channels) == wanted
