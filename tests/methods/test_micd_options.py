"""Every option of MICD changes what it says, and nothing else needs a pass that it does not."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from semiseg.batches.batch import Batch
from semiseg.errors import InputError
from semiseg.methods.base import Clock, Task, entry
from semiseg.networks import build_network
from semiseg.training.footprint import LiveBytes

CLASSES = 3
BIG = partial(build_network, "vnet", channels=1, classes=2, spatial_dims=2, filters=8)
ALL_OFF = {"mcpc": "off", "cfc": False, "cmd": False}


def make(**options):
    torch.manual_seed(0)
    build = partial(
        build_network,
        "unet",
        channels=1,
        classes=CLASSES,
        spatial_dims=2,
        filters=(4, 6, 8),
        normalisation="batch",
        dropout=0.2,
    )
    task = Task(CLASSES, 1, 2, (100, 30, 10))
    return entry("micd-paper").build({"ramp": "none", "weight": 1.0, **options}, task, build).train()


def batch():
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(CLASSES, (3, 16, 16), generator=generator)
    return Batch(labels.unsqueeze(1) + torch.rand(3, 1, 16, 16, generator=generator), labels[:1])


class Passes:
    """Counts forward passes with and without gradient of the given networks."""

    def __init__(self, nets):
        self.images, self.graded = [], 0
        for net in nets:
            net.register_forward_pre_hook(self._note)

    def _note(self, net, inputs):
        self.images.append(inputs[0])
        self.graded += torch.is_grad_enabled()


def step(method, at=3):
    torch.manual_seed(7)
    steps = method.step(batch(), Clock(at, 100, 0, 10))
    loss = next(steps)
    loss.total.backward()
    next(steps, None)
    return loss


@pytest.mark.parametrize(
    ("options", "passes", "graded", "terms"),
    [
        ({}, 4, 4, {"mcpc", "cfc", "cmd"}),
        ({"cmd": False}, 4, 2, {"mcpc", "cfc"}),
        ({"cmd": False, "mcpc": "clean_to_masked"}, 4, 4, {"mcpc", "cfc"}),
        ({"cmd": False, "kl_masked": True}, 4, 4, {"mcpc", "cfc"}),
        ({"cmd": False, "mcpc": "off"}, 2, 2, {"mcpc", "cfc"}),
        ({"cfc": False}, 4, 4, {"mcpc", "cmd"}),
        ({"mcpc": "off"}, 4, 4, {"mcpc", "cfc", "cmd"}),
        (ALL_OFF, 2, 2, {"mcpc"}),
    ],
)
def test_each_part_costs_only_its_own_passes(options, passes, graded, terms):
    method = make(**options)
    students, teachers = Passes(method.students), Passes([teacher.net for teacher in method.teachers])
    loss = step(method)
    assert (len(students.images), students.graded) == (passes, graded)
    assert (len(teachers.images), teachers.graded) == ((2, 0) if "cmd" in terms else (0, 0))
    assert set(loss.terms) == {"supervised"} | terms


CHANGES = [
    ("mcpc", {"mcpc": "clean_to_masked"}),
    ("mcpc", {"mcpc": "off"}),
    ("cmd", {"mask_ratio": 0.9}),
    ("cmd", {"mask_block": 5}),
    ("cmd", {"mask_block": (2, 4)}),
    ("cmd", {"mask_exact": True}),
    ("cmd", {"mask_shared": False}),
    ("cmd", {"mask_fill": "mean"}),
    ("cfc", {"kl_direction": "b_to_a"}),
    ("cfc", {"kl_direction": "symmetric"}),
    ("cfc", {"kl_temperature": 3.0}),
    ("cfc", {"kl_reversed": True}),
    ("cfc", {"kl_masked": True}),
    ("cmd", {"teacher_statistics": "copied"}),
    ("cmd", {"teacher_dropout": True}),
    ("cmd", {"cmd_weighted": True}),
    ("cfc", {"unlabelled_only": True}),
    ("mcpc", {"unlabelled_only": True}),
    ("cmd", {"unlabelled_only": True}),
    ("supervised", {"window": 5.0}),
    ("supervised", {"momentum": 0.1}),
]


@pytest.mark.parametrize(("term", "options"), CHANGES, ids=[f"{t}-{o}" for t, o in CHANGES])
def test_options_change_their_term(term, options):
    losses = []
    for method in (make(), make(**options)):
        # Dropout would draw other numbers for other masks.
        for module in method.modules():
            if hasattr(module, "p") and "teacher_dropout" not in options:
                module.p = 0.0
        losses.append([step(method).terms[term].item(), step(method).terms[term].item()])
    assert all(map(torch.isfinite, torch.tensor(losses).flatten()))
    assert losses[0] != losses[1]


def test_detached_features_get_no_gradient():
    def feature_gradient(detach):
        method = make(kl_detach=detach)
        loss = step_loss(method)
        gradients = [
            torch.autograd.grad(loss.terms["cfc"], list(net.parameters()), retain_graph=True, allow_unused=True)
            for net in method.students
        ]
        return [any(g is not None for g in found) for found in gradients]

    assert feature_gradient("none") == [True, True]
    assert feature_gradient("a") == [False, True]
    assert feature_gradient("b") == [True, False]


def step_loss(method):
    return next(method.step(batch(), Clock(3, 100, 0, 10)))


def test_masked_images_and_their_sharing():
    for shared in (True, False):
        method = make(mask_shared=shared)
        seen = Passes(method.students)
        step(method)
        hidden = [images for images in seen.images if bool((images == 0).any())]
        assert len(hidden) == 2
        assert torch.equal(*hidden) == shared


@pytest.mark.parametrize("frozen", [False, True])
def test_masked_passes_may_leave_statistics_alone(frozen):
    method = make(freeze_masked=frozen)
    before = next(m for m in method.students[0].modules() if isinstance(m, nn.BatchNorm2d))
    clean_only = make(**ALL_OFF)
    step(method)
    step(clean_only)
    reference = next(m for m in clean_only.students[0].modules() if isinstance(m, nn.BatchNorm2d))
    assert torch.equal(before.running_mean, reference.running_mean) == frozen


def test_teachers_start_as_students_and_follow_after_the_step():
    method = make(decay=0.5)
    images = torch.rand(1, 1, 16, 16)
    for teacher, student in zip(method.teachers, method.students, strict=True):
        assert torch.equal(teacher.net.eval()(images), student.eval()(images))
    method.train()
    steps = method.step(batch(), Clock(9, 100, 0, 10))
    next(steps)
    with torch.no_grad():
        for p in method.students.parameters():
            p.add_(1.0)
    before = [p.clone() for p in method.teachers.parameters()]
    next(steps, None)
    for old, new in zip(before, method.teachers.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.5)


def test_networks_for_prediction():
    images, found = torch.rand(2, 1, 16, 16), {}
    for choice in ("students", "teachers", "all"):
        method = make(predict_with=choice)
        with torch.no_grad():
            for p in method.teachers.parameters():
                p.mul_(1.5)
            found[choice] = method.eval().predict(images)
    assert not torch.allclose(found["students"], found["teachers"])
    mean = (found["students"].log() + found["teachers"].log()).div(2).softmax(1)
    torch.testing.assert_close(found["all"], mean)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="needs teachers"):
        make(cmd=False, predict_with="teachers")
    with pytest.raises(InputError, match="mask_block: expected one side or 2"):
        make(mask_block=(3, 3, 3))


def test_a_masked_pass_without_gradient_spares_the_clean_one_under_autocast():
    method = make(cmd=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = step_loss(method).total
    loss.backward()
    heads = [p for net in method.students for key, p in net.named_parameters() if key.endswith("weight")]
    assert all(p.grad is not None and p.grad.any() for p in heads)


@pytest.mark.parametrize("options", [{}, {"mcpc": "off"}, {"kl_masked": True}, {"cmd": False}, ALL_OFF])
def test_views_apart_give_the_same_gradients_and_updates(options):
    options = {"mcpc": "clean_to_masked", "freeze_masked": True, **options}
    found = []
    for apart in (False, True):
        method, terms, updates = make(views_apart=apart, **options), {}, []
        torch.manual_seed(7)
        for loss in method.step(batch(), Clock(3, 100, 0, 10)):
            loss.total.backward()  # gradients add up
            terms |= loss.terms
            updates.append(loss.update)
        assert updates == ([False, True] if apart and options != {**options, **ALL_OFF} else [True])
        found.append((method, terms))
    (together, terms), (apart, same) = found
    assert terms.keys() == same.keys()
    for name in terms:
        torch.testing.assert_close(same[name], terms[name])
    for p, q in zip(together.parameters(), apart.parameters(), strict=True):
        if p.grad is not None:
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-6)
    for name, value in together.state_dict().items():
        torch.testing.assert_close(apart.state_dict()[name], value)


def test_views_apart_need_less_memory():
    peaks = []
    for apart in (False, True):
        method = entry("micd").build({"views_apart": apart}, Task(2, 1, 2, (100, 30)), BIG).train()
        images = torch.randn(2, 1, 128, 128)
        labels = (images[:1, 0] > 0).long()
        with LiveBytes() as live:
            for loss in method.step(Batch(images, labels), Clock(3, 100, 0, 10)):
                loss.total.backward()
        peaks.append(live.peak)
    assert peaks[1] < 0.7 * peaks[0]


def test_views_apart_need_a_clean_teacher():
    with pytest.raises(InputError, match="clean_to_masked"):
        make(views_apart=True)
