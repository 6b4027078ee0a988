"""DHC against values of its official functions."""

from __future__ import annotations

import pytest
import torch

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.class_weights import ALPHA, EPS, DiffDW, DistDW, rarity
from semiseg.ingredients.losses import cross_entropy, dice_ce, hard_dice, soft_dice
from semiseg.ingredients.ramps import lagged, polynomial_decay, ramp_up, sigmoid_ramp
from stand_ins import GivenWeights, StandIn, clock, close, counts, labels, leaf, lengths, loss_of, make_method, tensor


@pytest.fixture(scope="module")
def g():
    return golden("dhc")


def test_weights_by_difficulty(g):
    assert (float(g["diffdw_alpha"]), float(g["diffdw_eps"])) == (ALPHA, EPS)
    for window in lengths(g, r"diffdw_acc(\d+)_weight"):
        weights = DiffDW(int(g["num_cls"]), window)
        for t, (logits, target) in enumerate(zip(g["diffdw_pred"], g["diffdw_label"], strict=True)):
            weight = weights.update(tensor(logits).argmax(1), labels(target, channel=True))
            state = {
                "weight": weight,
                "dice": weights.dice,
                "learn": weights.learned,
                "unlearn": weights.unlearned,
                "dice_weight": weights.missing,
            }
            for name, value in state.items():
                close(value, g[f"diffdw_acc{window}_{name}"][t], rtol=1e-3)


def test_weights_by_distribution(g):
    classes = int(g["num_cls"])
    start = counts(g["distdw_init_labels"], classes)
    close(DistDW(start).weight, g["distdw_init_weight"], rtol=1e-5)
    for percent in lengths(g, r"distdw_mom(\d+)_weight"):
        weights = DistDW(start, percent / 100)
        for t, logits in enumerate(g["distdw_pred"]):
            predicted = tensor(logits).argmax(1)
            close(weights.update(predicted, predicted[:0]), g[f"distdw_mom{percent}_weight"][t], rtol=1e-5)


def test_rarity_of_counts(g):
    close(rarity(tensor(g["distdw_counts_example"])), g["distdw_counts_example_weight"], rtol=1e-5)
    equal = [7.0] * int(g["num_cls"])
    close(DistDW(equal, strict=True).weight, g["distdw_counts_equal_weight"], rtol=0, equal_nan=True)
    assert torch.isfinite(DistDW(equal).weight).all()


def loss_case(g, case):
    target = labels(g["loss_label_absent2" if "absent2" in case else "loss_label"], channel=True)
    weight = {"plain": None, "w": "loss_weight", "wbg0": "loss_weight_bg0"}[case.split("_")[0]]
    return torch.zeros_like(target) if "allbg" in case else target, None if weight is None else tensor(g[weight])


def test_losses(g):
    functions = {
        "ce": lambda z, t, w: cross_entropy(z, t, w, strict=True),
        "dice": lambda z, t, w: soft_dice(z, t, weight=w),
        "dcce": lambda z, t, w: dice_ce(z, t, "dhc", w, strict=True),
    }
    for case in g["loss_cases"].tolist():
        target, weight = loss_case(g, case)
        for name, function in functions.items():
            logits = leaf(g["loss_logits"])
            loss = function(logits, target, weight)
            close(loss, g[f"loss_{name}_{case}"], rtol=1e-6, equal_nan=True)
            if f"loss_{name}_{case}_grad" in g:
                loss.backward()
                close(logits.grad, g[f"loss_{name}_{case}_grad"], rtol=1e-6, atol=1e-9)


def test_undefined_mean_is_zero_unless_strict(g):
    target, weight = loss_case(g, "wbg0_allbg")
    logits = leaf(g["loss_logits"])
    loss = cross_entropy(logits, target, weight)
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def test_hard_dice(g):
    predicted = tensor(g["loss_logits"]).argmax(1)
    dice = hard_dice(predicted, labels(g["loss_label_absent2"], channel=True), int(g["num_cls"]))
    close(dice, g["harddice_bg"], rtol=1e-6)
    close(dice[1:], g["harddice_fg"], rtol=1e-6)


@pytest.mark.parametrize("weights", ["own", "given"])
def test_steps(g, weights):
    classes, shape = int(g["num_cls"]), g["step_A"].shape[1:]
    method = make_method(
        "dhc", shape, counts(g["distdw_init_labels"], classes), weight=float(g["step_cps_w"]), ramp="none"
    )
    for t in range(len(g["step_A"])):
        nets = [StandIn(leaf(g[f"step_{name}"][t])) for name in "AB"]
        for index, net in enumerate(nets):
            method.nets[index] = net
            if weights == "given":
                method.class_weights[index] = GivenWeights(tensor(g[f"step_w{'AB'[index]}"][t]))
        batch = Batch(torch.ones(shape[0], 1, *shape[2:]), labels(g["step_label"][t], channel=True))
        loss = loss_of(method, batch)
        loss.total.backward()
        for name in "ab":
            close(method.observations()[f"class_weight_{name}"], g[f"step_w{name.upper()}"][t], rtol=1e-3)
        close(loss.terms["supervised"], g["step_sup"][t], rtol=1e-4)
        close(loss.terms["cross"], g["step_cps"][t], rtol=1e-4)
        close(loss.total, g["step_total"][t], rtol=1e-4)
        for net, name in zip(nets, ("gA", "gB"), strict=True):
            close(net.clean.grad, g[f"step_{name}"][t], rtol=1e-4, atol=1e-8)


def test_schedules(g):
    last, lr, peak, power = (float(g[f"sched_{name}"]) for name in ("max_epoch", "base_lr", "cps_w", "power"))
    for epoch in range(int(last) + 1):
        close(lr * polynomial_decay(epoch, last, power), g["sched_poly_raw"][epoch], rtol=1e-12)
        close(lr * polynomial_decay(lagged(epoch), last, power), g["sched_lr_used"][epoch], rtol=1e-12)
        close(peak * sigmoid_ramp(epoch, last), g["sched_ramp_raw"][epoch], rtol=1e-12)
        used = peak * ramp_up(clock(epoch=epoch, epochs=int(last) + 1), "epochs")
        close(used, g["sched_cps_w_used"][epoch], rtol=1e-12)
    close(sigmoid_ramp(0, 0), g["sched_ramp_len0"], rtol=1e-12)
