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

CLASSES = 3
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
    ("supervised", {"window": 5.0}),
    ("supervised", {"momentum": 0.1}),
]


@pytest.mark.parametrize(("term", "options"), CHANGES, ids=[f"{t}-{o}" for t, o in CHANGES])
def test_options_change_their_term(term, options):
    losses = []
    for method in (make(), make(**options)):
        # Dropout would draw other numbers for other masks.
        for module in method.modules():
            if hasattr(module, "p"):
                module.p = 0.0
        losses.append([step(method).terms[term].item(), step(method).terms[term].item()])
    assert all(map(torch.isfinite, torch.tensor(losses).flatten()))
    assert losses[0] != losses[1]


def step_loss(method):
    return next(method.step(batch(), Clock(3, 100, 0, 10)))


def test_both_students_see_the_same_hidden_blocks():
    method = make()
    seen = Passes(method.students)
    step(method)
    hidden = [images for images in seen.images if bool((images == 0).any())]
    assert len(hidden) == 2
    assert torch.equal(*hidden)


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


def test_students_predict_together():
    images, method = torch.rand(2, 1, 16, 16), make().eval()
    a, b = (net(images) for net in method.students)
    torch.testing.assert_close(method.predict(images), ((a + b) / 2).softmax(1))


def test_teachers_label_without_dropout_and_with_statistics_of_their_batch():
    for teacher in make().teachers:
        assert (teacher.dropout, teacher.statistics) == (False, "batch")


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="mask_block: expected one side or 2"):
        make(mask_block=(3, 3, 3))


def test_a_masked_pass_without_gradient_spares_the_clean_one_under_autocast():
    method = make(cmd=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = step_loss(method).total
    loss.backward()
    heads = [p for net in method.students for key, p in net.named_parameters() if key.endswith("weight")]
    assert all(p.grad is not None and p.grad.any() for p in heads)
