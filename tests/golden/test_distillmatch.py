"""DistillMatch against its code: whole steps through the method's own `step`, threshold, rate and boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.methods.base import entry
from semiseg.methods.distillmatch import method as module
from semiseg.methods.distillmatch.views import draw_boxes
from semiseg.settings.run import OptimiserConfig
from semiseg.training.optim import learning_rate
from stand_ins import StandIn, clock, close, labels, leaf, loss_of, make_method, tensor

CLOSE = {"rtol": 1e-4, "atol": 1e-6}
DROPPED = ("u_w_fp", "u_w_fp_mid", "u_w_fp_strong")


@pytest.fixture(scope="module")
def g():
    return golden("distillmatch")


class Streams(StandIn):
    """Answers as the network does: to patches in evaluation mode, with dropped features, and to the strong views."""

    def __init__(self, g, case):
        read = {name: leaf(g[f"{case}_pred_{name}"], torch.float32) for name in ("x", "u_w", "u_s1", "u_s2", *DROPPED)}
        super().__init__(read["u_s1"])
        self.read, self.of_boxes = read, tensor(g[f"{case}_pred_u_w_mix"], torch.float32)

    def with_dropped_features(self, images, *drops, first, head_dropout):
        assert (drops, first, head_dropout) == ((0.25, 0.5, 0.75), len(self.read["x"]), False)
        return torch.cat([self.read["x"], self.read["u_w"]]), *(self.read[name] for name in DROPPED)

    def forward(self, x, taps=(), *, dropout=None):
        return torch.cat([self.read["u_s1"], self.read["u_s2"]]) if self.training else self.of_boxes


@pytest.mark.parametrize("case", ["a", "allignored"])
def test_steps(g, case, monkeypatch):
    net, target = Streams(g, case).train(), labels(g[f"{case}_mask_x"])
    method = make_method("distillmatch", net.clean.shape, threshold=float(g[f"{case}_conf_thresh"])).train()
    method.net = net
    boxes = [tensor(g[f"{case}_cutmix_box{k}"]).unsqueeze(1) == 1 for k in (1, 2)]
    monkeypatch.setattr(type(method.config), "boxes", lambda _, __, given=iter(boxes): next(given))
    seen = []
    real = module.sure_dice
    monkeypatch.setattr(module, "sure_dice", lambda *given: seen.append(real(*given)) or seen[-1])
    shape = (len(target) + len(net.read["u_w"]), 1, *net.clean.shape[2:])
    loss = loss_of(method, Batch(torch.zeros(shape), target))
    loss.total.backward()
    close(loss.terms["supervised"], g[f"{case}_loss_x"], **CLOSE)
    names = ["u_s1", "u_s2", *DROPPED, "TA1_TA2", "TA2_STU"]
    for found, name in zip(seen, names, strict=True):
        close(found, g[f"{case}_loss_{name}"], **CLOSE)
    perturbed = 0.8 * loss.terms["features"] + 0.2 * loss.terms["chain"]
    close(perturbed, g[f"{case}_loss_u_w_pert"], **CLOSE)
    close(loss.total, g[f"{case}_loss"], **CLOSE)
    for name in ("x", "u_s1", "u_s2", *DROPPED):
        close(net.read[name].grad, g[f"{case}_grad_pred_{name}"], **CLOSE)


@pytest.mark.parametrize("case", ["a", "allignored"])
@pytest.mark.parametrize("k", [1, 2])
def test_labels_of_mixed_views(g, case, k):
    box = tensor(g[f"{case}_cutmix_box{k}"]) == 1
    p, q = (tensor(g[f"{case}_pred_{name}"]).softmax(1) for name in ("u_w_mix", "u_w"))
    np.testing.assert_array_equal(torch.where(box, p.argmax(1), q.argmax(1)), g[f"{case}_mask_u_w_cutmixed{k}"])
    close(torch.where(box, p.amax(1), q.amax(1)), g[f"{case}_conf_u_w_cutmixed{k}"], **CLOSE)


@pytest.mark.parametrize("start", [75, 95])
def test_threshold(g, start):
    c = entry("distillmatch-official").configure({"threshold": start / 100})
    assert c.tau(clock(step=0)) == start / 100
    for step, value in zip(g["iterations"].tolist(), g[f"conf_thresh_next_base{start}"], strict=True):
        close(c.tau(clock(step=step + 1, steps=15_000)), value, **CLOSE)


def test_learning_rate(g):
    config = OptimiserConfig(name="adamw", lr=0.001, schedule="poly", length=17_000)
    for step, value in zip(g["iterations"].tolist(), g["lr_adamw"], strict=True):
        close(learning_rate(config, step, 15_000), value, rtol=1e-6, atol=1e-9)


def test_boxes(g):
    """Statistically, for the draws are others."""
    torch.manual_seed(0)
    shape = (28, 28, 20)
    lower, upper = draw_boxes(4000, shape, torch.device("cpu"), swap=True)
    extent = (upper - lower).clamp(min=0).double()
    assert abs(extent.prod(1).mean() / np.prod(shape) - g["box_fraction_200_seeds_28x28x20"].mean()) < 0.02
    assert (extent.mean(0) - tensor(g["box_extent_200_seeds"]).mean(0)).abs().max() < 1.5
    lower, upper = draw_boxes(4000, shape, torch.device("cpu"), swap=False)
    assert (lower >= 0).all()
    assert (upper <= torch.tensor(shape)).all()
