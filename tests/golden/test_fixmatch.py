"""FixMatch in its three published forms, each through the method's own `step`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.methods.fixmatch_ssl4mis import complementary_loss, margin_labels, margins, spread_weight
from stand_ins import InTurn, StandIn, clock, close, labels, leaf, loss_of, make_method, tensor

CLOSE = {"rtol": 1e-6, "atol": 1e-9}
SSL4MIS = ["s2d", "s2d_low_confidence", "s2d_all_background"]


@pytest.fixture(scope="module")
def g():
    return golden("fixmatch")


class Streams(StandIn):
    """In evaluation mode it sees the patches of the boxes, then both weak views, then the strong one."""

    def __init__(self, g, case):
        read = {name: leaf(g[f"{case}/logits_{name}"]) for name in ("x", "u_w", "u_s")}
        super().__init__(read["u_s"])
        self.read, self.of_boxes = read, tensor(g[f"{case}/logits_u_w_mix"])
        self.turn = iter((torch.cat([read["x"], read["u_w"]]), read["u_s"]))

    def forward(self, x, taps=(), *, dropout=None):
        self.seen.append(x)
        return next(self.turn) if self.training else self.of_boxes


class View(torch.Tensor):
    """A strong view whose other order is the second batch's."""

    def __getitem__(self, order):
        return self.other


@pytest.mark.parametrize("case", ["plain", "plain_none_confident"])
def test_plain_steps(g, case, monkeypatch):
    net, target = Streams(g, case).train(), labels(g[f"{case}/labels"])
    method = make_method("fixmatch-official", net.clean.shape, threshold=float(g[f"{case}/conf_thresh"])).train()
    method.net = net
    view = tensor(g[f"{case}/img_u_s"]).as_subclass(View)
    view.other = tensor(g[f"{case}/img_u_s_mix"])
    box = tensor(g[f"{case}/cutmix_box"]).unsqueeze(1) == 1
    monkeypatch.setattr(type(method.config), "strong", lambda *_: view)
    monkeypatch.setattr(type(method.config), "boxes", lambda *_: box)
    images = torch.zeros(len(target) + len(view), *view.shape[1:], dtype=torch.float64)
    loss = loss_of(method, Batch(images, target))
    loss.total.backward()
    close(loss.terms["supervised"], g[f"{case}/loss_x"], **CLOSE)
    close(loss.terms["unlabelled"], g[f"{case}/loss_u_s"], **CLOSE)
    close(loss.total, g[f"{case}/loss"], **CLOSE)
    close(net.read["x"].grad, g[f"{case}/grad_logits_x"], **CLOSE)
    close(net.read["u_s"].grad, g[f"{case}/grad_logits_u_s"], **CLOSE)
    assert net.read["u_w"].grad is None or not net.read["u_w"].grad.any()
    close(torch.Tensor(net.seen[-1]), g[f"{case}/mixed_strong_image"], rtol=0)


@pytest.mark.parametrize("case", ["plain", "plain_none_confident"])
def test_labels_of_mixed_views(g, case):
    box = tensor(g[f"{case}/cutmix_box"]) == 1
    p, q = (tensor(g[f"{case}/logits_{name}"]).softmax(1) for name in ("u_w_mix", "u_w"))
    np.testing.assert_array_equal(torch.where(box, p.argmax(1), q.argmax(1)), g[f"{case}/pseudo"])
    close(torch.where(box, p.amax(1), q.amax(1)), g[f"{case}/conf"], **CLOSE)


def ssl4mis(g, case, name):
    """Loss of the step, and the logits of both views."""
    weak, strong = (leaf(g[f"{case}/{view}_logits"]) for view in ("weak", "strong"))
    n = int(g[f"{case}/labeled_bs"])
    method = make_method(
        name,
        weak.shape,
        weight=float(g["consistency"]),
        ramp="units150",
        ramp_length=float(g["consistency_rampup"]),
        threshold=float(g["conf_thresh"]),
    )
    method.student = InTurn(weak, strong)
    if method.teacher is not None:
        method.teacher.net = StandIn(tensor(g[f"{case}/teacher_weak_logits"]))
    batch = Batch(torch.ones(len(weak), 1, *weak.shape[2:]), labels(g[f"{case}/labels"])[:n])
    loss = loss_of(method, batch, clock(step=int(g[f"{case}/iter_num"]), steps=10**6))
    loss.total.backward()
    return loss, weak, strong


@pytest.mark.parametrize("case", SSL4MIS)
@pytest.mark.parametrize(("kind", "name"), [("std", "fixmatch_ssl4mis"), ("cta", "fixmatch_ssl4mis-teacher")])
def test_ssl4mis_steps(g, case, kind, name):
    loss, weak, strong = ssl4mis(g, case, name)
    close(loss.terms["supervised"], g[f"{case}/{kind}_sup_loss"], **CLOSE)
    others = sum(term for key, term in loss.terms.items() if key != "supervised")
    close(others, g[f"{case}/{kind}_unsup_loss"], **CLOSE)
    close(loss.weights["pseudo"], g[f"{case}/{kind}_weight"], **CLOSE)
    close(loss.total, g[f"{case}/{kind}_loss"], **CLOSE)
    close(weak.grad, g[f"{case}/{kind}_grad_weak_logits"], **CLOSE)
    close(strong.grad, g[f"{case}/{kind}_grad_strong_logits"], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("case", SSL4MIS)
def test_ssl4mis_labels_and_complements(g, case):
    weak, strong, teacher = (
        tensor(g[f"{case}/{name}_logits"]).softmax(1) for name in ("weak", "strong", "teacher_weak")
    )
    n, threshold = int(g[f"{case}/labeled_bs"]), float(g["conf_thresh"])
    close(margins(weak), g[f"{case}/std_normalized"], **CLOSE)
    np.testing.assert_array_equal(margins(weak) > threshold, g[f"{case}/std_pseudo_mask"].astype(bool))
    np.testing.assert_array_equal(margin_labels(weak, threshold)[n:], g[f"{case}/std_pseudo_outputs"])
    np.testing.assert_array_equal(hard_labels(teacher), g[f"{case}/cta_pseudo_outputs"])
    a = spread_weight(strong)
    close(a, g[f"{case}/std_as_weight"], rtol=1e-5)
    close(complementary_loss(strong, weak), a * float(g[f"{case}/std_comp_loss"]), rtol=1e-5)
