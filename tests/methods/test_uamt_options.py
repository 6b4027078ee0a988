"""Options of UA-MT on networks that answer with given logits, against plain formulas."""

from __future__ import annotations

import math

import pytest
import torch

from level_stand_ins import LevelStandIn
from semiseg.batches.batch import Batch
from stand_ins import StandIn, clock, loss_of, make_method

SHAPE = (3, 4, 6, 6)
PASSES = 4


def logits(seed, batch):
    return torch.randn(batch, *SHAPE[1:], generator=torch.Generator().manual_seed(seed)) * 3


def draw(seed):
    """Logits of two Monte-Carlo passes that are much alike, as those of one network are."""
    return torch.cat([logits(9, 2)] * 2) + 0.3 * logits(seed, 4)


def consistency(at=None, **options):
    """The method's term for one labelled and two unlabelled patches."""
    method = make_method("uamt", SHAPE, passes=PASSES, **options)
    method.student = StandIn(logits(0, 3))
    answers = [logits(1, 2), *(draw(seed) for seed in range(2, 2 + PASSES // 2))]
    method.teacher.net = LevelStandIn(*(([z], []) for z in answers))
    batch = Batch(torch.rand(3, 1, 6, 6), torch.zeros(1, 6, 6, dtype=torch.long))
    return loss_of(method, batch, at or clock(step=40)).terms["consistency"]


def by_hand(done, largest=math.log(2)):
    draws = torch.cat([draw(seed).softmax(1) for seed in range(2, 2 + PASSES // 2)]).view(PASSES, 2, *SHAPE[1:])
    mean = draws.mean(0)
    limit = (0.75 + 0.25 * math.exp(-5 * (1 - done) ** 2)) * largest
    mask = (-(mean * (mean + 1e-6).log()).sum(1) < limit).float()
    assert 0 < mask.sum() < mask.numel()
    student, teacher = logits(0, 3)[1:].softmax(1), logits(1, 2).softmax(1)
    return (((student - teacher) ** 2).sum(1) * mask).sum() / (2 * mask.sum())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"done": 0.4}),
        ({"counts": "epochs"}, {"done": 5 / 9}),
        ({"entropy_max": "classes"}, {"done": 0.4, "largest": math.log(4)}),
    ],
)
def test_consistency(options, expected):
    torch.testing.assert_close(consistency(clock(step=40, epoch=5), **options), by_hand(**expected))


def test_teacher_is_another_draw_that_the_first_update_copies():
    method = make_method("uamt", SHAPE)
    assert method.teacher.net is not method.student
    method.student.dummy.data += 3
    method.teacher.update(method.student, 0)
    assert torch.equal(method.teacher.net.dummy, method.student.dummy)


def test_student_predicts():
    method = make_method("uamt", SHAPE)
    method.student = StandIn(logits(0, 3))
    torch.testing.assert_close(method.predict(torch.zeros(3, 1, 6, 6)), logits(0, 3).softmax(1))
