"""Who teaches when, views, and the options of AD-MT."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import pytest
import torch

from methods.test_conformance import make as make_default
from methods.test_conformance import make_batch
from semiseg.methods.admt.alternation import Alternation, teacher_decay
from semiseg.methods.admt.teaching import Lesson, fuse, heard
from semiseg.methods.admt.views import draw_boxes, jitter, within_range
from semiseg.methods.base import Clock, Task, entry
from semiseg.networks import build_network


def make(steps: int = 100, **options):
    torch.manual_seed(0)

    def build(**overrides):
        return build_network("unet", channels=1, classes=2, spatial_dims=2, filters=(4, 8), **overrides)

    return entry("admt").build(options, Task(2, 1, 2, (100, 10), steps=steps), build).train()


def step(method, number: int, batch=None):
    torch.manual_seed(number)
    losses = method.step(batch or make_batch(2, 2), Clock(number, 100, 0, 1))
    loss = next(losses)
    loss.total.backward()
    assert next(losses, None) is None
    return loss


def test_who_teaches_follows_from_step_and_seed_alone():
    one, other = Alternation(7, 3), Alternation(7, 3)
    forward = [one.active(k) for k in range(500)]
    assert forward == [other.active(k) for k in reversed(range(500))][::-1]
    lengths = Counter(len(list(run)) for _, run in groupby(forward))
    assert set(lengths) <= set(range(1, 8))
    assert len(lengths) >= 5
    assert forward[0] == 0
    assert forward != [Alternation(7, 4).active(k) for k in range(500)]


def test_only_the_active_teacher_moves_and_the_idle_one_keeps_its_statistics():
    method = make_default("admt", 2, 2)
    seen = set()
    for number in range(40):
        before = [{k: v.clone() for k, v in net.state_dict().items()} for net in method.teachers]
        step(method, number)
        moved = [
            any(not torch.equal(v, old[k]) for k, v in net.state_dict().items())
            for net, old in zip(method.teachers, before, strict=True)
        ]
        active = method.alternation.active(number)
        assert moved[active]
        assert not moved[1 - active]
        seen.add(active)
    assert seen == {0, 1}


def test_short_runs_have_short_periods_and_warm_ups():
    assert make(steps=100).alternation.longest == 5
    assert make(steps=15_000).alternation.longest == 19
    assert make(steps=100, horizon=None).alternation.longest == 19
    assert make(steps=200).warm_up == pytest.approx(5)
    assert [teacher_decay(k, 5, 0.9) for k in (0, 9, 10, 11, 12, 1000)] == pytest.approx([0, 0, 0, 0, 0.5, 0.9])


def test_conflicts_may_count_differently():
    for number in range(3):
        both, none, twice = (
            step(make(threshold=0.0, conflict_weight=weight), number).terms["unlabelled"] for weight in (1.0, 0.0, 2.0)
        )
        assert none < twice
        assert both.isfinite()


def test_the_surer_teacher_counts_more_and_a_surer_student_is_heard_in_conflicts():
    sure, unsure = torch.tensor([5.0, -5.0]).view(1, 2, 1), torch.tensor([-0.2, 0.2]).view(1, 2, 1)
    lesson = fuse(sure, unsure)
    assert lesson.labels.item() == 0
    assert lesson.conflict.item()
    assert lesson.confidence.item() > fuse(sure, -sure).confidence.item()
    told = heard(lesson, torch.tensor([-9.0, 9.0]).view(1, 2, 1))
    assert told.labels.item() == 1
    assert told.confidence.item() > lesson.confidence.item()
    calm = Lesson(lesson.labels, lesson.confidence, torch.zeros_like(lesson.conflict))
    assert heard(calm, torch.tensor([-9.0, 9.0]).view(1, 2, 1)).labels.item() == 0


def test_what_the_student_says_may_be_moved_with_the_boxes():
    batch = make_batch(2, 2)
    found = []
    for moved in (False, True):
        method = make(threshold=0.0, mix_student=moved)
        method.alternation.active = lambda _: 1  # type: ignore[method-assign]
        found.append([step(method, number, batch).terms["unlabelled"].item() for number in range(8)])
    assert found[0] != found[1]


@pytest.mark.parametrize("sides", [(12, 12), (8, 8, 8)])
def test_views(sides):
    torch.manual_seed(0)
    images = torch.randn(64, 2, *sides) * 3 + 1
    view = jitter(images)
    same = [bool(torch.equal(a, b)) for a, b in zip(view, images, strict=True)]
    within = [bool(b.min() - 1e-4 <= a.min() and a.max() <= b.max() + 1e-4) for a, b in zip(view, images, strict=True)]
    assert 0.65 < sum(within) / 64 <= 0.95, "noise comes with a probability of 0.2 and leaves the range"
    assert sum(same) < 64 * 0.4
    ones = torch.ones(64, 1, *(1,) * len(sides))
    torch.testing.assert_close(within_range(images, ones, 0 * ones), images)
    assert within_range(0 * images, ones, ones).eq(0).all()
    boxes = draw_boxes(images, 4.0)
    assert boxes.shape == (64, 1, *sides)
    assert 0 < boxes.float().mean() < 0.6


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extremes_are_finite(scale, dtype):
    logits = (scale * (torch.randint(2, (2, 2, 3, 4, 4, 4)) * 2 - 1)).to(dtype)
    lesson = heard(fuse(*logits), logits[0].neg())
    assert lesson.confidence.isfinite().all()
    assert jitter((scale * torch.randn(2, 1, 4, 4)).to(dtype)).isfinite().all()
