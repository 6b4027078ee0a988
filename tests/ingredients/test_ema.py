from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from semiseg.ingredients.ema import Teacher, ema_decay, ema_update, ema_update_buffers, frozen_statistics
from semiseg.networks.base import Network


class Tiny(Network):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5)

    def forward(self, x, taps=(), *, dropout=None):
        x = self.norm(self.conv(x))
        return x if dropout is False else self.drop(x)


@pytest.fixture
def images():
    return torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_decay_warms_up():
    assert [ema_decay(step, 0.7) for step in range(5)] == pytest.approx([0, 0.5, 2 / 3, 0.7, 0.7])


def test_parameters_follow_and_buffers_do_not(images):
    student, teacher = Tiny(), Tiny()
    student(images)
    expected = [0.9 * t + 0.1 * s for t, s in zip(teacher.parameters(), student.parameters(), strict=True)]
    mean = teacher.norm.running_mean.clone()
    ema_update(teacher, student, 0.9)
    torch.testing.assert_close(list(teacher.parameters()), expected)
    assert torch.equal(teacher.norm.running_mean, mean)


def test_buffers_averaged_or_copied(images):
    student, teacher = Tiny(), Tiny()
    student(images)
    expected = 0.5 * (teacher.norm.running_mean + student.norm.running_mean)
    ema_update_buffers(teacher, student, 0.5)
    torch.testing.assert_close(teacher.norm.running_mean, expected)
    assert teacher.norm.num_batches_tracked == 1
    ema_update_buffers(teacher, student, 0.0)
    assert torch.equal(teacher.norm.running_var, student.norm.running_var)


def test_first_update_copies_exactly(images):
    student, teacher = Tiny(), Teacher(Tiny(), 0.99)
    teacher.update(student, 0)
    for t, s in zip(teacher.net.parameters(), student.parameters(), strict=True):
        assert torch.equal(t, s)


def test_teacher_never_has_gradients(images):
    teacher = Teacher(Tiny(), 0.99)
    assert not teacher(images).requires_grad
    assert not any(p.requires_grad for p in teacher.parameters())


def test_batch_statistics_normalise_the_batch(images):
    logits = Teacher(Tiny(), 0.99).train()(images)
    torch.testing.assert_close(logits.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("statistics", ["copied", "averaged"])
def test_running_statistics_normalise_as_the_students(images, statistics):
    student = Tiny()
    teacher = Teacher(deepcopy(student), 0.5, statistics).train()
    student(images)
    teacher.update(student, 0)
    student.eval()
    torch.testing.assert_close(teacher(images), student(images, dropout=False))


@pytest.mark.parametrize("statistics", ["batch", "copied"])
def test_dropout_is_a_choice(images, statistics):
    def differs(dropout):
        teacher = Teacher(Tiny(), 0.99, statistics, dropout=dropout).train()
        return not torch.equal(teacher(images), teacher(images))

    assert differs(True)
    assert not differs(False)


def test_frozen_statistics(images):
    net = Tiny()
    before = net.norm.running_mean.clone()
    with frozen_statistics(net):
        net(images)
    assert torch.equal(net.norm.running_mean, before)
    with frozen_statistics(net, freeze=False):
        net(images)
    assert not torch.equal(net.norm.running_mean, before)
    assert net.norm.momentum == 0.1
