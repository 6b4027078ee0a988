"""BCP against the official functions, and whole steps of both stages through the method's own `step`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.components import keep_largest
from semiseg.ingredients.ema import ema_update, ema_update_buffers
from semiseg.ingredients.mixing import box_sides, outside_box, paste
from semiseg.ingredients.pseudo_labels import threshold_labels
from semiseg.ingredients.regions import region_dice_ce
from semiseg.ingredients.sample_losses import sample_dice_ce
from semiseg.methods import bcp
from semiseg.methods.base import Clock
from semiseg.scans.components import largest_component
from stand_ins import InTurn, close, labels, leaf, make_method, tensor

CLOSE = {"rtol": 1e-6, "atol": 1e-9}
SELF = Clock(600, 1000, 0, 10, "selftraining")


@pytest.fixture(scope="module")
def g():
    return golden("bcp")


@pytest.mark.parametrize(
    ("key", "shape"), [("la_112_112_80", (112, 112, 80)), ("acdc_256_256", (256, 256)), ("pancreas_96_64", (96,) * 3)]
)
def test_boxes(g, key, shape):
    sides = box_sides(shape, 2 / 3)
    for row in g[f"mask/{key}"]:
        starts, stops = np.split(row, 2)
        assert tuple(stops - starts) == sides
        assert all(0 <= start < size - side for start, size, side in zip(starts, shape, sides, strict=True))
        inside = (~outside_box(starts.tolist(), sides, shape)).nonzero()
        assert inside.min(0).values.tolist() == starts.tolist()
        assert (inside.max(0).values + 1).tolist() == stops.tolist()


def self_training(g, case, monkeypatch, student, teacher, order, **options):
    """Loss of one step with the file's mask, and the batch: halves a and b in `order`."""
    outside = tensor(g[f"{case}/img_mask"], torch.bool)
    images = tensor(g[f"{case}/images"]).tensor_split(4)
    targets = {name: labels(g[f"{case}/lab_{name}"]) for name in "ab"}
    x, u = dict(zip("ab", images[:2], strict=True)), dict(zip("ab", images[2:], strict=True))
    first, second = order
    batch = Batch(torch.cat([x[first], x[second], u[first], u[second]]), torch.cat([targets[first], targets[second]]))
    method = make_method("bcp-official", student[0].shape, **options)
    method.student, method.teacher.net = InTurn(*student), InTurn(*teacher)
    monkeypatch.setattr(bcp, "draw_outside_box", lambda *_: outside)
    loss = next(method.step(batch, SELF))
    loss.total.backward()
    return loss, method


@pytest.mark.parametrize("case", ["la", "la_empty", "la_mask_all_ones"])
def test_left_atrium(g, case, monkeypatch):
    student = [leaf(g[f"{case}/student_logits_{name}"]) for name in "lu"]
    teacher = [tensor(g[f"{case}/teacher_logits_{name}"]) for name in "ab"]
    weight = float(g[f"{case}/u_weight"])
    loss, method = self_training(g, case, monkeypatch, student, teacher, "ab", pseudo_weight=weight)
    close(loss.total, g[f"{case}/loss"], **CLOSE)
    for name, logits, seen in zip("lu", student, method.student.seen, strict=True):
        close(logits.grad, g[f"{case}/grad_student_logits_{name}"], **CLOSE)
        close(seen, g[f"{case}/mix{name}_img"], rtol=0)
    outside = tensor(g[f"{case}/img_mask"], torch.bool)
    found = [keep_largest(threshold_labels(z))() for z in teacher]
    for name, each in zip("ab", found, strict=True):
        np.testing.assert_array_equal(each.numpy(), g[f"{case}/plab_{name}"])
    a, b = (labels(g[f"{case}/lab_{name}"]) for name in "ab")
    np.testing.assert_array_equal(paste(a, found[0], outside).numpy(), g[f"{case}/mixl_lab"])
    np.testing.assert_array_equal(paste(found[1], b, outside).numpy(), g[f"{case}/mixu_lab"])
    parts = {"l": (a, found[0], 1.0, weight), "u": (found[1], b, weight, 1.0)}
    for (name, (out, inside, w_out, w_in)), logits in zip(parts.items(), student, strict=True):
        value = w_out * region_dice_ce(logits, out, outside, "sample")
        value = value + w_in * region_dice_ce(logits, inside, ~outside, "sample")
        close(value, g[f"{case}/loss_{name}"], **CLOSE)


@pytest.mark.parametrize("case", ["acdc", "acdc_class_absent"])
def test_acdc(g, case, monkeypatch):
    """There the halves are named the other way round."""
    logits = {name: leaf(g[f"{case}/student_logits_{name}"]) for name in ("l", "unl")}
    teacher = [tensor(g[f"{case}/teacher_logits_{name}"]) for name in "ba"]
    weight = float(g[f"{case}/u_weight"])
    loss, method = self_training(
        g, case, monkeypatch, [logits["l"], logits["unl"]], teacher, "ba", dice="batch", pseudo_weight=weight
    )
    close(loss.total, g[f"{case}/loss"], **CLOSE)
    parts = sum(float(g[f"{case}/{name}_{part}"]) for name in ("unl", "l") for part in ("dice", "ce"))
    close(loss.total, parts / 2, **CLOSE)
    for (name, each), seen in zip(logits.items(), method.student.seen, strict=True):
        close(each.grad, g[f"{case}/grad_student_logits_{name}"], **CLOSE)
        close(seen, g[f"{case}/net_input_{name}"], rtol=0)
    for name, z in zip("ba", teacher, strict=True):
        np.testing.assert_array_equal(keep_largest(threshold_labels(z))().numpy(), g[f"{case}/plab_{name}"])


def test_pretraining(g):
    logits, target = leaf(g["la_pre/logits"]), labels(g["la_pre/labels"])
    loss = sample_dice_ce(logits, target)
    loss.backward()
    close(loss, g["la_pre/loss"], **CLOSE)
    close((float(g["la_pre/loss_ce"]) + float(g["la_pre/loss_dice"])) / 2, g["la_pre/loss"], **CLOSE)
    close(logits.grad, g["la_pre/grad_logits"], **CLOSE)


def test_pancreas(g):
    outside = tensor(g["pancreas/mask"], torch.bool)
    image, patch = labels(g["pancreas/img_l"]), labels(g["pancreas/patch_l"])
    for name, weights in {"unlab0": (1.0, 0.5), "unlab1": (0.5, 1.0)}.items():
        logits = leaf(g["pancreas/logits"])
        loss = weights[0] * region_dice_ce(logits, image, outside, "sample")
        loss = loss + weights[1] * region_dice_ce(logits, patch, ~outside, "sample")
        loss.backward()
        close(loss, g[f"pancreas/loss_{name}"], **CLOSE)
        close(logits.grad, g[f"pancreas/grad_{name}"], **CLOSE)


@pytest.mark.parametrize(("neighbours", "key"), [("all", "full"), ("edges", "2"), ("faces", "1")])
def test_largest_components(g, neighbours, key):
    for sample, kept in zip(g["lcc/seg3d"], g[f"lcc/seg3d_connectivity_{key}"], strict=True):
        np.testing.assert_array_equal(largest_component(sample, neighbours), kept)


def test_pseudo_labels(g):
    z = tensor(g["lcc/logits3d"])
    np.testing.assert_array_equal(threshold_labels(z).numpy(), g["lcc/cut_mask_raw"])
    np.testing.assert_array_equal(keep_largest(threshold_labels(z))().numpy(), g["lcc/cut_mask_nms"])
    np.testing.assert_array_equal(
        keep_largest(threshold_labels(z), neighbours="edges")().numpy(), g["lcc/cut_mask_pancreas"]
    )
    z = tensor(g["lcc/logits2d"])
    np.testing.assert_array_equal(threshold_labels(z).numpy(), g["lcc/masks2d_raw"])
    np.testing.assert_array_equal(keep_largest(threshold_labels(z))().numpy(), g["lcc/masks2d_nms"])


def test_moving_average(g):
    """Parameters first, then the buffers that some of the official scripts average too."""
    decay, sizes, names = float(g["ema/alpha"]), g["ema/layout_sizes"], [str(n) for n in g["ema/layout"]]

    class Flat(nn.Module):
        def __init__(self, row):
            super().__init__()
            for name, part in zip(names, np.split(row, np.cumsum(sizes)[:-1]), strict=True):
                value, name = tensor(part, torch.float32), name.replace(".", "_")
                if "running" in name or "num_batches" in name:
                    self.register_buffer(name, value)
                else:
                    self.register_parameter(name, nn.Parameter(value))

        def row(self):
            state = self.state_dict()
            return torch.cat([state[name.replace(".", "_")] for name in names])

    for key, buffers in (("teacher_params_only_seq", False), ("teacher_state_dict_seq", True)):
        teacher = Flat(g["ema/teacher_init"])
        for row, expected in zip(g["ema/student_seq"], g[f"ema/{key}"], strict=True):
            ema_update(teacher, Flat(row), decay)
            if buffers:
                ema_update_buffers(teacher, Flat(row), decay)
            close(teacher.row(), expected, rtol=1e-5, atol=1e-6)
