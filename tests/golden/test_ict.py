"""ICT against its official steps, through the method's own `step`."""

from __future__ import annotations

import pytest
import torch

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.losses import FORMS, cross_entropy, soft_dice
from semiseg.ingredients.mixtures import mixup
from semiseg.methods import ict
from semiseg.methods.base import entry
from stand_ins import InTurn, StandIn, clock, close, labels, leaf, loss_of, make_method, tensor

CLOSE = {"rtol": 1e-6, "atol": 1e-9}


@pytest.fixture(scope="module")
def g():
    return golden("ict")


@pytest.mark.parametrize("case", ["s2d", "s2d_all_background", "s3d"])
def test_steps(g, case, monkeypatch):
    v = {key.removeprefix(f"{case}/"): value for key, value in g.items() if key.startswith(f"{case}/")}
    logits, n, m = leaf(v["student_logits"]), int(v["labeled_bs"]), tensor(v["mix_factors"])
    target = labels(v["labels"])[:n]
    method = make_method("ict", logits.shape, ramp="units150", ramp_length=200)
    # The second half is the one that the factor belongs to, and the teacher sees it first.
    method.student, method.teacher.net = (
        StandIn(logits),
        InTurn(tensor(v["teacher_logits_1"]), tensor(v["teacher_logits_0"])),
    )
    monkeypatch.setattr(ict, "draw_beta", lambda beta, like: m.flatten())
    loss = loss_of(
        method, Batch(tensor(v["volume"], torch.float32), target), clock(step=int(v["iter_num"]), steps=30000)
    )
    loss.total.backward()
    close(method.student.seen[0], v["student_input"], rtol=1e-6, atol=1e-7)
    close(method.student.seen[0][n:], v["mixed_images"], rtol=1e-6, atol=1e-7)
    for seen, half in zip(method.teacher.net.seen, (1, 0), strict=True):
        close(seen, v[f"teacher_input_{half}"], rtol=0)
    close(mixup(*(tensor(v[f"teacher_logits_{half}"]).softmax(1) for half in (1, 0)), m), v["mixed_target"], **CLOSE)
    close(cross_entropy(logits[:n], target), v["loss_ce"], **CLOSE)
    close(soft_dice(logits[:n], target, FORMS["ssl4mis"]), v["loss_dice"], **CLOSE)
    close(loss.terms["consistency"], v["consistency_loss"], **CLOSE)
    close(loss.weights["consistency"], v["weight"], **CLOSE)
    close(loss.total, v["loss"], **CLOSE)
    close(logits.grad, v["grad_student_logits"], **CLOSE)


def test_constants(g):
    assert entry("ict").configure({}).beta == float(g["ict_alpha"])


def test_one_share_for_all_and_a_partner_for_each():
    method = make_method("ict-paper", (5, 2, 4, 4))
    method.student, method.teacher.net = StandIn(torch.zeros(5, 2, 4, 4)), StandIn(torch.zeros(3, 2, 4, 4))
    images = torch.eye(5).view(5, 5, 1, 1).expand(5, 5, 4, 4)
    loss_of(method, Batch(images, torch.zeros(2, 4, 4, dtype=torch.long)))
    shown = method.student.seen[0][2:, 2:, 0, 0]
    share = shown[0, 0]
    torch.testing.assert_close(shown, share * torch.eye(3) + (1 - share) * torch.eye(3).roll(-1, 0))
