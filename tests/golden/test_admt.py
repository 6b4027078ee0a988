"""AD-MT against its official code: whole steps of both teachers through the method's own `step`, and its parts."""

from __future__ import annotations

from itertools import chain, repeat

import numpy as np
import pytest
import torch
from torch import nn

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.ema import ema_update, ema_update_buffers
from semiseg.ingredients.losses import dice_ce
from semiseg.ingredients.mixtures import box_mask
from semiseg.methods.admt import method
from semiseg.methods.admt.alternation import Alternation, teacher_decay
from semiseg.methods.admt.teaching import Lesson, entropy_bits, fuse, heard, mixed
from semiseg.settings.run import OptimiserConfig
from semiseg.training.optim import learning_rate
from stand_ins import StandIn, clock, close, labels, leaf, loss_of, make_method, tensor

CLOSE = {"rtol": 1e-4, "atol": 1e-6}
CASES = ["a", "noconf"]


@pytest.fixture(scope="module")
def g():
    return golden("admt")


@pytest.mark.parametrize("longest", [19, 14])
def test_teachers_alternate(g, longest, monkeypatch):
    """The lengths that were in force make the same turns."""
    states, in_force = g[f"alternate_states_p{longest}"], g[f"alternate_periods_p{longest}"].tolist()
    starts = [0, *(np.flatnonzero(np.diff(states)) + 1).tolist()]
    periods = [in_force[start] for start in starts]
    assert all(1 <= period <= longest for period in periods)
    lengths = chain(periods, repeat(longest))
    monkeypatch.setattr(Alternation, "_draw", lambda _: next(lengths))
    found = Alternation(longest, 0)
    assert [found.active(step) == 0 for step in range(len(states))] == states.tolist()


@pytest.mark.parametrize("case", CASES)
def test_lessons(g, case):
    first, second = (tensor(g[f"{case}_teacher{k}_logits"], torch.float32) for k in (1, 2))
    for k, z in ((1, first), (2, second)):
        close(entropy_bits(z.softmax(1)), g[f"{case}_entropy{k}_bits"], **CLOSE)
    share = torch.sigmoid(entropy_bits(second.softmax(1)) - entropy_bits(first.softmax(1)))
    close(share, g[f"{case}_weight1"], **CLOSE)
    lesson = fuse(first, second)
    close(lesson.confidence, g[f"{case}_pseudo_conf"], **CLOSE)
    close(lesson.confidence, g[f"{case}_ensemble"].max(1), **CLOSE)
    np.testing.assert_array_equal(lesson.labels, g[f"{case}_pseudo"])
    np.testing.assert_array_equal(lesson.conflict, g[f"{case}_conflict"])
    given = Lesson(*(tensor(g[f"{case}_mix_{key}"], kind) for key, kind in KINDS.items()))
    taught = heard(given, tensor(g[f"{case}_student_weak_logits"], torch.float32))
    np.testing.assert_array_equal(taught.labels, g[f"{case}_final_pseudo"])
    close(taught.confidence, g[f"{case}_final_conf"], **CLOSE)
    np.testing.assert_array_equal(taught.conflict, g[f"{case}_final_conflict"])
    sure = taught.confidence >= float(g["conf_threshold_3d"])
    assert int(sure.sum()) == int(g[f"{case}_n_confident"])


KINDS = {"pseudo": torch.long, "conf": torch.float32, "conflict": torch.bool}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("loss", ["ce", "dice"])
def test_steps_with_boxes(g, case, loss, monkeypatch):
    """The second teacher's periods: boxes and their order come from the file."""
    weak, strong = (leaf(g[f"{case}_student_{view}_logits"], torch.float32) for view in ("weak", "strong"))
    supervised = leaf(g["sup_logits"], torch.float32)
    corners = tensor(g[f"{case}_cutmix_box_x1y1z1x2y2z2"], torch.long)
    images, order = tensor(g[f"{case}_image"], torch.float32), tensor(g[f"{case}_cutmix_perm"], torch.long)
    dims = images.ndim - 2
    box = box_mask(corners[:dims].T, corners[dims:].T, images.shape[2:])
    threshold = float(g["conf_threshold_3d"])
    made = make_method("admt-official", weak.shape, unlabelled_loss=loss, threshold=threshold)
    made.teachers = nn.ModuleList(StandIn(tensor(g[f"{case}_teacher{k}_logits"], torch.float32)) for k in (1, 2))
    made.student = StandIn(torch.cat([supervised, weak, strong]))
    monkeypatch.setattr(made.alternation, "active", lambda step: 1)
    monkeypatch.setattr(method, "draw_boxes", lambda *_: box)
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: order)
    x = torch.zeros(len(supervised), *images.shape[1:])
    found = loss_of(made, Batch(torch.cat([x, images]), labels(g["sup_labels"])))
    found.terms["supervised"].backward(retain_graph=True)
    found.terms["unlabelled"].backward()
    close(made.student.seen[0][-len(images) :], g[f"{case}_mix_image"], **CLOSE)
    close(found.terms["supervised"], g["loss_sup"], **CLOSE)
    close(supervised.grad, g["grad_sup"], **CLOSE)
    assert not weak.grad.any()
    if f"{case}_loss_{loss}" in g:
        close(found.terms["unlabelled"], g[f"{case}_loss_{loss}"], **CLOSE)
        close(strong.grad, g[f"{case}_grad_{loss}"], **CLOSE)
    else:
        assert int(g[f"{case}_loss_ce_official_is_nan"])
        assert not found.terms["unlabelled"]
        assert not strong.grad.any()


def test_labels_outside_of_boxes_stay(g):
    for case in CASES:
        lesson = fuse(*(tensor(g[f"{case}_teacher{k}_logits"], torch.float32) for k in (1, 2)))
        corners = tensor(g[f"{case}_cutmix_box_x1y1z1x2y2z2"], torch.long)
        shape = lesson.labels.shape[1:]
        box = box_mask(corners[: len(shape)].T, corners[len(shape) :].T, shape)
        moved = mixed(lesson, tensor(g[f"{case}_cutmix_perm"], torch.long), box)
        np.testing.assert_array_equal(moved.labels, g[f"{case}_mix_pseudo"])
        close(moved.confidence, g[f"{case}_mix_conf"], **CLOSE)
        np.testing.assert_array_equal(moved.conflict, g[f"{case}_mix_conflict"])


def test_supervised(g):
    logits = leaf(g["sup_logits"], torch.float32)
    close(dice_ce(logits, labels(g["sup_labels"]), "ssl4mis"), g["loss_sup"], **CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_boxes_have_the_size_of_their_draw(g, case):
    """Twice half of the side on each axis, less what lies beyond a border."""
    hidden = (1 - float(g[f"{case}_cutmix_lam"])) ** 0.5
    corners = g[f"{case}_cutmix_box_x1y1z1x2y2z2"]
    shape = g[f"{case}_image"].shape[2:]
    for axis, side in enumerate(shape):
        full = int(side * hidden) // 2 * 2
        for low, high in zip(corners[axis], corners[axis + len(shape)], strict=True):
            assert high - low == full or (high - low < full and (low == 0 or high == side))


class Flat(nn.Module):
    """Weight, bias, and running mean and variance of a normalisation."""

    def __init__(self, row):
        super().__init__()
        weight, bias, mean, variance = tensor(row, torch.float32).chunk(4)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)

    def row(self):
        return torch.cat([self.weight, self.bias, self.mean, self.variance])


def test_moving_average(g):
    teacher = Flat(g["ema_teacher0"])
    for s, student, expected in zip(g["ema_steps"].tolist(), g["ema_student"], g["ema_teacher"], strict=True):
        for step in (2 * s, 2 * s + 1):
            assert teacher_decay(step, int(g["ema_rampup"]), float(g["ema_decay"])) == pytest.approx(
                teacher_decay(2 * s, int(g["ema_rampup"]), float(g["ema_decay"]))
            )
        decay = teacher_decay(2 * s, int(g["ema_rampup"]), float(g["ema_decay"]))
        ema_update(teacher, Flat(student), decay)
        ema_update_buffers(teacher, Flat(student), decay)
        close(teacher.row(), expected, **CLOSE)


def test_schedules(g):
    config = make_method("admt-official", (2, 2, 8, 8)).config
    poly = OptimiserConfig(name="sgd", lr=0.01, schedule="poly", power=0.9)
    for i, weight, rate in zip(g["iterations"].tolist(), g["consistency_weight"], g["lr"], strict=True):
        close(config.weight * config.ramp_up(clock(step=i)), weight, rtol=1e-6)
        close(learning_rate(poly, i, 15_000), rate, rtol=1e-6)
