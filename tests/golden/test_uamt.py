"""UA-MT against the official steps of two code bases."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from golden_files import golden
from level_stand_ins import LevelStandIn
from semiseg.batches.batch import Batch
from semiseg.ingredients.class_sums import full_precision
from semiseg.ingredients.confidence import entropy, low_entropy, monte_carlo_mean, relative_entropy_limit
from semiseg.ingredients.consistency import add_noise
from semiseg.ingredients.ema import ema_decay, ema_update
from semiseg.ingredients.ramps import sigmoid_ramp
from stand_ins import StandIn, clock, close, labels, leaf, loss_of, make_method, tensor

RTOL = 1e-4
GRADIENT = {"rtol": 1e-3, "atol": 1e-8}


@pytest.fixture(scope="module")
def g():
    return golden("uamt")


class Step:
    """The official step with prefix `case`, through the method's own `step`."""

    def __init__(self, g, case, at, **options):
        self.g, self.case, self.n = g, case, int(g["n_labelled"])
        self.student = leaf(self.cut("logits_student"))
        teacher = [tensor(self.cut("logits_teacher"))]
        passes = [tensor(self.cut("logits_teacher_mc", 2)[k]) for k in range(len(g["logits_teacher_mc"]))]
        self.passes = [torch.zeros_like(z) for z in passes] if case == "empty_" else passes
        self.target = labels(g["la_labels"])[: self.n] if case == "la_" else labels(g["labels"], channel=True)
        self.method = make_method("uamt", self.student.shape, passes=int(g["mc_passes"]), **options)
        self.method.student = StandIn(self.student)
        self.method.teacher.net = LevelStandIn(*(([z], []) for z in [*teacher, *self.passes]))
        self.batch = Batch(torch.ones(len(self.student), 1, *self.student.shape[2:]), self.target)
        self.loss = loss_of(self.method, self.batch, at)
        self.loss.total.backward()

    def cut(self, key, axis=1):
        """The logits of the classes that the case uses."""
        classes = slice(0, 2) if self.case == "la_" else slice(None)
        return self.g[key][(slice(None),) * axis + (classes,)]

    def check(self, consistency):
        g, case = self.g, self.case
        close(self.loss.terms["supervised"], g[f"{case}supervised_loss"], RTOL)
        close(self.loss.terms["consistency"], g[case + consistency], RTOL)
        close(self.loss.total, g[f"{case}loss"], RTOL)
        close(self.student.grad, g[f"{case}grad_student"], **GRADIENT)
        answers = iter(self.passes)
        (mean,) = monte_carlo_mean(
            lambda _: [torch.softmax(full_precision(next(answers)), 1)], self.batch.unlabelled, int(g["mc_passes"])
        )
        uncertainty, limit = entropy(mean), float(g[f"{case}threshold"])
        close(uncertainty.unsqueeze(1), g[f"{case}uncertainty"], RTOL, atol=1e-7)
        sure = (uncertainty - limit).abs() > 1e-5
        found = low_entropy(mean, limit / math.log(mean.shape[1]))
        assert torch.equal(found[sure], labels(g[f"{case}mask"], channel=True).bool()[sure])


@pytest.mark.parametrize("case", ["", "empty_"])
def test_dhc_step(g, case):
    at = clock(epoch=int(g[f"{case}epoch"]), epochs=int(g["max_epoch"]) + 1)
    step = Step(g, case, at, loss="dhc_half", counts="epochs", weight=float(g["weight"]), ramp="none")
    step.check("consistency_loss")
    if case:
        assert step.loss.terms["consistency"] == 0


def test_left_atrium_step(g):
    at = clock(step=int(g["la_iteration"]), steps=int(g["la_max_iterations"]))
    ramp = {"ramp": "units150", "ramp_length": float(g["la_rampup"])}
    step = Step(g, "la_", at, loss="la", weight=float(g["la_weight_max"]), **ramp)
    close(step.loss.weights["consistency"], g["la_weight"], rtol=1e-9)
    step.check("consistency_dist")


@pytest.mark.parametrize(("case", "at"), [("la_", ("la_iteration", "la_max_iterations")), ("", ("epoch", "max_epoch"))])
def test_limit(g, case, at):
    done, whole = (float(g[key]) for key in at)
    close(relative_entropy_limit(sigmoid_ramp(done, whole)) * math.log(2), g[f"{case}threshold"], rtol=1e-9)


def test_limit_over_epochs(g):
    limits = [
        relative_entropy_limit(sigmoid_ramp(epoch, int(g["max_epoch"]))) * math.log(2)
        for epoch in g["threshold_epochs"].tolist()
    ]
    close(torch.tensor(limits, dtype=torch.float64), g["threshold_values"], rtol=1e-9)


def test_noise(g):
    torch.manual_seed(0)
    noise = add_noise(torch.zeros(100_000), torch.randn(100_000), 0.1)
    close(noise.abs().max(), g["noise_abs_max"], rtol=1e-5)
    close(noise.std(), g["noise_std"], rtol=0.05)


def test_moving_average(g):
    teacher = nn.ParameterList([nn.Parameter(tensor(g["ema_teacher_w0"]), requires_grad=False)])
    for row, step in enumerate(g["ema_steps"].tolist()):
        student = nn.ParameterList([nn.Parameter(tensor(g["ema_student_w"][row]))])
        ema_update(teacher, student, ema_decay(step, float(g["ema_alpha"])))
        close(teacher[0], g["ema_teacher_w"][row], RTOL)


@pytest.mark.parametrize("counts", ["steps", "epochs"])
def test_teacher_follows_what_is_counted(g, counts):
    method = make_method("uamt", (2, 2, 4, 4), counts=counts, decay=float(g["ema_alpha"]))
    passes = [torch.zeros(images, 2, 4, 4) for images in (1, 2, 2, 2, 2)]
    method.teacher.net = LevelStandIn(*(([z], []) for z in passes)).requires_grad_(False)
    method.student.dummy.data += 1
    batch = Batch(torch.rand(2, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))
    for _ in method.step(batch, clock(step=8, epoch=3)):
        pass
    expected = 1 - ema_decay({"steps": 8, "epochs": 3}[counts], float(g["ema_alpha"]))
    close(method.teacher.net.dummy, [expected], rtol=1e-5)
