"""Mean teacher against the official steps, ramps and moving average."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.consistency import add_noise
from semiseg.ingredients.ema import ema_decay, ema_update
from semiseg.ingredients.losses import FORMS, cross_entropy, soft_dice
from semiseg.ingredients.ramps import UNIT, cosine_rampdown, linear_ramp, polynomial_decay, ramp_up, sigmoid_ramp
from stand_ins import StandIn, clock, close, labels, leaf, lengths, loss_of, make_method, tensor

RTOL = 1e-6


@pytest.fixture(scope="module")
def g():
    return golden("mean_teacher")


def cases(g):
    return sorted({key.split("/")[0] for key in g if "/" in key})


def test_step_of_every_case(g):
    for case in cases(g):
        v = {key.split("/")[1]: value for key, value in g.items() if key.startswith(f"{case}/")}
        n, i = int(v["labeled_bs"]), int(v["iter_num"])
        logits = leaf(v["student_logits"])
        target = labels(v["labels"])[:n]
        close(cross_entropy(logits[:n], target), v["loss_ce"], RTOL)
        close(soft_dice(logits[:n], target, FORMS["ssl4mis"]), v["loss_dice"], RTOL)

        method = make_method(
            "mean_teacher",
            logits.shape,
            weight=float(g["consistency"]),
            ramp="units150",
            ramp_length=float(g["consistency_rampup"]),
            consistency_start=1000 if logits.ndim == 4 else 0,
        )
        method.student, method.teacher.net = StandIn(logits), StandIn(tensor(v["teacher_logits"]))
        batch = Batch(torch.ones(len(logits), 1, *logits.shape[2:]), target)
        loss = loss_of(method, batch, clock(step=i, steps=int(g["sched_max_iterations"])))
        loss.total.backward()
        close(loss.terms["supervised"], v["supervised_loss"], RTOL)
        close(loss.terms["consistency"], v["consistency_loss"], RTOL)
        close(loss.weights["consistency"], v["consistency_weight"], RTOL)
        close(loss.total, v["loss"], RTOL)
        close(logits.grad, v["grad_student_logits"], RTOL, atol=1e-12)


def test_noise(g):
    for case in cases(g):
        if f"{case}/noise_normal" in g:
            images, normal, noisy = (
                tensor(g[f"{case}/{name}"]) for name in ("volume_unlabeled", "noise_normal", "teacher_input")
            )
            close(add_noise(images, normal, 0.1), noisy, rtol=1e-12, atol=1e-15)


def test_method_gives_noise_to_the_teacher_only():
    method = make_method("mean_teacher", (3, 2, 64, 64))
    method.teacher.net = StandIn(torch.zeros(2, 2, 64, 64))
    images = torch.rand(3, 1, 64, 64)
    loss_of(method, Batch(images, torch.zeros(1, 64, 64, dtype=torch.long)))
    noise = method.teacher.net.seen[0] - images[1:]
    assert torch.equal(method.student.seen[0], images)
    assert noise.abs().max() <= 0.2 + 1e-6
    assert 0.085 < noise.std() < 0.105


def test_ramps(g):
    for length, values in lengths(g, r"ramp_sigmoid_len(\d+)").items():
        for x, value in zip(g["ramp_current"], values, strict=True):
            close(sigmoid_ramp(float(x), length), value, RTOL)
    others = (linear_ramp, r"ramp_linear_len(\d+)"), (cosine_rampdown, r"rampdown_cosine_len(\d+)")
    for function, pattern in others:
        ((length, values),) = lengths(g, pattern).items()
        for x, value in zip(g["ramp_current_nonneg"], values, strict=True):
            close(function(float(x), length), value, RTOL, atol=1e-15)


def test_schedules(g):
    steps, lr = int(g["sched_max_iterations"]), float(g["sched_base_lr"])
    assert int(g["iters_per_ramp_unit"]) == UNIT
    for i, iteration in enumerate(g["sched_iter"].tolist()):
        close(lr * polynomial_decay(iteration, steps), g["sched_lr"][i], RTOL)
        ramp = ramp_up(clock(step=iteration, steps=steps), "units150", float(g["consistency_rampup"]))
        close(float(g["consistency"]) * ramp, g["sched_consistency_weight"][i], RTOL)


def test_moving_average(g):
    teacher = nn.ParameterList([nn.Parameter(tensor(g["ema_teacher_init"]), requires_grad=False)])
    for row, step in enumerate(g["ema_steps"].tolist()):
        student = nn.ParameterList([nn.Parameter(tensor(g["ema_student_seq"][row]))])
        ema_update(teacher, student, ema_decay(step, float(g["ema_alpha"])))
        close(teacher[0], g["ema_teacher_seq"][row], RTOL)
