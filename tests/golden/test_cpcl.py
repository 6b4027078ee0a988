"""CPCL against its code: whole steps through the method's own `step`, prototypes, and schedules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from golden_files import golden
from methods.test_conformance import make, make_batch
from semiseg.batches.batch import Batch
from semiseg.ingredients.ema import ema_decay, ema_update
from semiseg.ingredients.levels import one_hot, resize_linear
from semiseg.ingredients.losses import FORMS, cross_entropy, soft_dice
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.methods.base import Method, entry
from semiseg.methods.cpcl import nearness, prototypes
from semiseg.settings.run import OptimiserConfig
from semiseg.training.optim import learning_rate
from stand_ins import InTurn, StandIn, clock, close, labels, leaf, loss_of, make_method, tensor

CLOSE = {"rtol": 1e-4, "atol": 1e-6}
GRADIENT = {"rtol": 1e-4, "atol": 1e-8}


@pytest.fixture(scope="module")
def g():
    return golden("cpcl")


class Replayed:
    """A step on the logits and features of the file; the student's features of unlabelled patches are the teacher's."""

    def __init__(self, g, case: str, name: str = "cpcl", **options: object) -> None:
        v = {key.removeprefix(f"{case}_"): value for key, value in g.items() if key.startswith(f"{case}_")}
        self.v, self.logits = v, leaf(v["student_logits"], torch.float32)
        own, theirs = (tensor(v[key], torch.float32) for key in ("student_feat_labelled", "teacher_feat_unlabelled"))
        self.n = len(own)
        self.features = torch.cat([own, theirs]).requires_grad_()
        self.method: Method = make_method(name, self.logits.shape, **options)
        self.method.student = StandIn(self.logits, features=[self.features, self.features])
        teacher = [tensor(v[f"teacher_logits_{kind}"], torch.float32) for kind in ("noisy_all", "unlabelled")]
        self.method.teacher.net = InTurn(*teacher)
        self.method.teacher.net.features = [theirs, theirs]
        self.target = labels(v["labels"])[: self.n]
        self.images = torch.randn(len(self.logits), 1, *self.logits.shape[2:])
        self.loss = loss_of(self.method, Batch(self.images, self.target), clock(0, 10_000))

    def gradient(self, term: str) -> torch.Tensor:
        (found,) = torch.autograd.grad(self.loss.terms[term], self.features, retain_graph=True)
        return found


@pytest.mark.parametrize("case", ["a", "absent"])
@pytest.mark.parametrize("name", ["cpcl", "cpcl-official"])
def test_steps(g, case, name):
    run = Replayed(g, case, name, ramp="none")
    v, terms, n = run.v, run.loss.terms, run.n
    close(terms["supervised"], v["loss_sup"], **CLOSE)
    close(cross_entropy(run.logits[:n], run.target), v["loss_ce"], **CLOSE)
    close(soft_dice(run.logits[:n], run.target, FORMS["ssl4mis"]), v["loss_dice"], **CLOSE)
    close(terms["stability"], v["loss_stability"], **CLOSE)
    close(terms["forward"], v["loss_l2u"], **CLOSE)
    close(terms["backward"], v["loss_u2l"], **CLOSE)
    w = run.method.config.weight
    whole = terms["supervised"] + w * (terms["stability"] + terms["forward"])
    close(run.loss.total, whole + float(g["PAweight"]) * w * terms["backward"], **CLOSE)
    run.loss.total.backward()
    close(run.logits.grad, v["grad_sup_plus_0p1_stab_wrt_logits"], **GRADIENT)
    assert (run.features.grad is None) == (name == "cpcl-official")


@pytest.mark.parametrize("case", ["a", "absent"])
def test_features_learn_by_the_prototypes_of_the_other_half(g, case):
    both, half = (Replayed(g, case, gradient=gradient) for gradient in ("both", "labelled"))
    n = both.n
    for run in (both, half):
        found = run.gradient("backward")
        close(found[:n], run.v["grad_u2l_wrt_student_feat"], **GRADIENT)
        assert not found[n:].any()
    found = both.gradient("forward")
    close(found[n:], both.v["grad_l2u_wrt_teacher_feat"], **GRADIENT)
    assert not found[:n].any()
    assert not half.loss.terms["forward"].requires_grad


@pytest.mark.parametrize("case", ["a", "absent"])
def test_prototypes(g, case):
    v = {key.removeprefix(f"{case}_"): value for key, value in g.items() if key.startswith(f"{case}_")}
    mine, theirs = tensor(v["student_feat_labelled"]), tensor(v["teacher_feat_unlabelled"])
    n, classes, sides = len(mine), v["student_logits"].shape[1], v["labels"].shape[1:]
    p, p_t = tensor(v["student_logits"]).softmax(1)[:n], tensor(v["teacher_logits_unlabelled"]).softmax(1)
    mine, theirs = (resize_linear(f, sides) for f in (mine, theirs))
    of_labels = prototypes(mine, one_hot(labels(v["labels"])[:n], classes) * p)
    of_teacher = prototypes(theirs, one_hot(hard_labels(p_t), classes) * p_t)
    close(of_labels, v["proto_labelled"], **CLOSE)
    close(of_teacher, v["proto_unlabelled"], **CLOSE)
    scale = float(g["cosine_scale"])
    close(nearness(theirs, of_labels, scale), v["pred_l2u"], **CLOSE)
    close(nearness(mine, of_teacher, scale), v["pred_u2l"], **CLOSE)
    assert scale == entry("cpcl").configure({}).sharpness


def test_halves_of_other_sizes_pair_in_order(g):
    """Twice the unlabelled patches: each labelled one segments two of them, by the loss of each as it was."""
    run = Replayed(g, "a")
    theirs, seen = run.method.teacher.net.features[0], run.method.teacher.net.logits[1]
    twice, n = torch.arange(len(seen)).repeat_interleave(2), run.n
    method = run.method
    method.student = StandIn(
        torch.cat([run.logits[:n], run.logits[n:][twice]]), features=[torch.cat([run.features[:n], theirs[twice]])] * 2
    )
    noisy = method.teacher.net.logits[0]
    method.teacher.net = InTurn(torch.cat([noisy[:n], noisy[n:][twice]]), seen[twice])
    method.teacher.net.features = [theirs[twice]] * 2
    images = torch.cat([run.images[:n], run.images[n:][twice]])
    loss = loss_of(method, Batch(images, run.target))
    close(loss.terms["forward"], run.v["loss_l2u"], **CLOSE)
    close(loss.terms["backward"], run.v["loss_u2l"], **CLOSE)


def test_noise_goes_to_the_stability_pass_alone(g):
    run = Replayed(g, "a")
    stability, clean = run.method.teacher.net.seen
    assert torch.equal(run.method.student.seen[0], run.images)
    assert torch.equal(clean, run.images[run.n :])
    assert 0 < (stability - run.images).abs().max() <= 0.2 + 1e-6


def test_schedules(g):
    official, default = (entry(name).configure({}) for name in ("cpcl-official", "cpcl"))
    sgd = OptimiserConfig(name="sgd", lr=0.01, schedule="poly")
    for step, weight, lr in zip(g["ramp_iterations"].tolist(), g["consistency_weight"], g["lr"], strict=True):
        at = clock(step=step, steps=10_000)
        close(official.weight * official.ramp_up(at), weight, **CLOSE)
        close(default.weight * default.ramp_up(at), weight, rtol=0.3)
        close(learning_rate(sgd, step, 10_000), lr, **CLOSE)


def test_moving_average(g):
    c = entry("cpcl-official").configure({})
    teacher = nn.ParameterList([nn.Parameter(tensor(g["ema_teacher0"]), requires_grad=False)])
    for row, step in enumerate(g["ema_global_steps"].tolist()):
        ema_update(
            teacher, nn.ParameterList([nn.Parameter(tensor(g["ema_student_seq"][row]))]), ema_decay(step, c.decay)
        )
        close(teacher[0], g["ema_teacher_seq"][row], **CLOSE)


def test_features_of_the_bottleneck():
    found = {}
    for tap in ("bottleneck", "decoder"):
        method = make("cpcl", 2, 3)
        method.config = method.config.model_copy(update={"tap": tap})
        asked = []
        method.student.register_forward_pre_hook(lambda _, args, asked=asked: asked.append(args[1]))
        torch.manual_seed(0)
        found[tap] = loss_of(method, make_batch(2, 3)).terms["backward"]
        assert asked == [("bottleneck",) if tap == "bottleneck" else ("dec1",)]
    assert found["bottleneck"] != found["decoder"]
