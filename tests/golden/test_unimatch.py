"""UniMatch against its medical code: whole steps through the method's own `step`, losses, boxes and sizes."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
import torch

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.levels import one_hot
from semiseg.ingredients.losses import FORMS
from semiseg.ingredients.masked import masked_parts
from semiseg.ingredients.strong_views import BOX_AREA, BOX_RATIO, box_sides
from semiseg.networks import build_network
from semiseg.settings.run import OptimiserConfig
from semiseg.training.optim import learning_rate
from stand_ins import StandIn, close, labels, leaf, loss_of, make_method, tensor

CLOSE = {"rtol": 1e-6, "atol": 1e-9}


@pytest.fixture(scope="module")
def g():
    return golden("unimatch")


@pytest.mark.parametrize("case", ["dice_mask", "dice_all_ignored"])
def test_dice_of_sure_voxels(g, case):
    logits, target = leaf(g[f"{case}/logits"]), labels(g[f"{case}/labels"])
    keep = tensor(g[f"{case}/ignore"]) != 1
    loss = masked_parts(logits, one_hot(target, logits.shape[1]), keep, dice=FORMS["ssl4mis"]).dice
    loss.backward()
    close(loss, g[f"{case}/loss"], **CLOSE)
    close(logits.grad, g[f"{case}/grad_logits"], **CLOSE)


class Streams(StandIn):
    """Answers as the network does: to patches in evaluation mode, with dropped features, and to the strong views."""

    def __init__(self, g, case):
        read = {name: leaf(g[f"{case}/logits_{name}"]) for name in ("x", "x_fp", "u_w", "u_w_fp", "u_s1", "u_s2")}
        super().__init__(read["u_s1"])
        self.read, self.of_boxes = read, tensor(g[f"{case}/logits_u_w_mix"])

    def with_dropped_features(self, images, drop):
        r = self.read
        return torch.cat([r["x"], r["u_w"]]), torch.cat([r["x_fp"], r["u_w_fp"]])

    def forward(self, x, taps=(), *, dropout=None):
        self.seen.append(x)
        return torch.cat([self.read["u_s1"], self.read["u_s2"]]) if self.training else self.of_boxes


@pytest.mark.parametrize("case", ["step", "step_none_confident"])
def test_steps(g, case, monkeypatch):
    views = [tensor(g[f"{case}/img_u_s{k}"]) for k in (1, 2)]
    others = [tensor(g[f"{case}/img_u_s{k}_mix"]) for k in (1, 2)]
    boxes = [tensor(g[f"{case}/cutmix_box{k}"]).unsqueeze(1) == 1 for k in (1, 2)]
    net, target = Streams(g, case), labels(g[f"{case}/labels"])
    method = make_method("unimatch", net.clean.shape, threshold=float(g[f"{case}/conf_thresh"])).train()
    method.net = net.train()

    class View(torch.Tensor):
        """A strong view whose other order is the second batch's."""

    def strong(_, __, given=iter(zip(views, others, strict=True))):
        view, other = next(given)
        found = view.as_subclass(View)
        found.other = other
        return found

    monkeypatch.setattr(View, "__getitem__", lambda self, order: self.other)
    monkeypatch.setattr(type(method.config), "strong", strong)
    monkeypatch.setattr(type(method.config), "boxes", lambda _, __, given=iter(boxes): next(given))
    unlabelled = len(views[0])
    images = torch.zeros(len(target) + unlabelled, *views[0].shape[1:], dtype=torch.float64)
    loss = loss_of(method, Batch(images, target))
    loss.total.backward()
    names = {"supervised": "x", "strong_1": "u_s1", "strong_2": "u_s2", "features": "u_w_fp"}
    for term, name in names.items():
        close(loss.terms[term], g[f"{case}/loss_{name}"], **CLOSE)
        found = net.read[name].grad
        found = torch.zeros_like(net.read[name]) if found is None else found
        close(found, g[f"{case}/grad_logits_{name}"], **CLOSE)
    close(loss.total, g[f"{case}/loss"], **CLOSE)
    assert not g[f"{case}/grad_u_w_max_abs"]
    assert net.read["u_w"].grad is None or not net.read["u_w"].grad.any()
    mixed = net.seen[1].tensor_split(2)
    for k, view in enumerate(mixed, 1):
        close(torch.Tensor(view), g[f"{case}/mixed_s{k}"], rtol=0)


@pytest.mark.parametrize("case", ["step", "step_none_confident"])
@pytest.mark.parametrize("k", [1, 2])
def test_labels_of_mixed_views(g, case, k):
    box = tensor(g[f"{case}/cutmix_box{k}"]) == 1
    p, q = (tensor(g[f"{case}/logits_{name}"]).softmax(1) for name in ("u_w_mix", "u_w"))
    np.testing.assert_array_equal(torch.where(box, p.argmax(1), q.argmax(1)), g[f"{case}/pseudo{k}"])
    close(torch.where(box, p.amax(1), q.amax(1)), g[f"{case}/conf{k}"], **CLOSE)


def test_boxes(g):
    """The official draws, made by the official generators, through our sides."""
    seed, size, p = int(g["box/seed"].item()), int(g["box/size"].item()), float(g["box/p"].item())
    random.seed(seed)
    draw = np.random.RandomState(seed)
    for expected in g["box/y0_x0_y1_x1"]:
        if random.random() > p:
            assert not expected.any()
            continue
        area = draw.uniform(BOX_AREA[0] * size * size, BOX_AREA[1] * size * size) / size**2
        while True:
            ratio = draw.uniform(BOX_RATIO, 1 / BOX_RATIO)
            x, y = draw.randint(0, size), draw.randint(0, size)
            share, shape = (torch.tensor(v, dtype=torch.float64) for v in (area, [ratio]))
            height, width = box_sides((size, size), share, shape).tolist()
            if x + width <= size and y + height <= size:
                break
        assert [y, x, y + height, x + width] == expected.tolist()


def test_learning_rate(g):
    config, total = OptimiserConfig(name="sgd", schedule="poly"), int(g["sched_total"].item())
    for i, expected in zip(g["sched_iter"].tolist(), g["sched_lr"], strict=True):
        close(learning_rate(config, i, total), expected, rtol=1e-9)


def test_size(g):
    build = partial(build_network, "unet2d", channels=1, classes=4, spatial_dims=2)
    net = build(network="branches", decoders=1)
    assert sum(p.numel() for p in net.parameters()) == int(g["n_params_unet_C4"].item())
