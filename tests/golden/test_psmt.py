"""PS-MT against its official functions, which are of parts of a step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from golden_files import golden
from semiseg.ingredients.adversarial import most_sensitive, unit_noise
from semiseg.ingredients.ema import ema_update, ema_update_buffers
from semiseg.ingredients.ramps import sigmoid_ramp
from semiseg.ingredients.sure_labels import weighted_sure_loss
from semiseg.methods.base import entry
from semiseg.methods.psmt import assisted
from stand_ins import close, leaf, tensor

CLOSE = {"rtol": 1e-4, "atol": 1e-6}


@pytest.fixture(scope="module")
def g():
    return golden("psmt")


@pytest.mark.parametrize("case", ["c2_a", "c2_noconf", "c4_a", "c4_noconf"])
def test_strict_cross_entropy(g, case):
    logits = leaf(g[f"ce_{case}_inputs"], torch.float32)
    loss = weighted_sure_loss(logits, tensor(g[f"ce_{case}_targets"], torch.float32), float(g[f"ce_{case}_threshold"]))
    loss.backward()
    close(loss, g[f"ce_{case}_loss_pos"], **CLOSE)
    close(logits.grad, g[f"ce_{case}_grad_pos"], **CLOSE)


def test_assistance(g):
    core, assistant = tensor(g["assist_core"]), tensor(g["assist_in"])
    close(assisted(core, assistant, 3), g["assist_out_top3"], **CLOSE)


def test_feature_noise(g):
    x, rand = (tensor(g[f"vat_{name}"], torch.float32) for name in ("x", "rand01"))
    decoders = [[tensor(g[f"vat_{part}{k}"], torch.float32) for part in "wb"] for k in (1, 2)]

    def predict(features):
        return torch.stack([F.conv2d(features, weight, bias) for weight, bias in decoders]).mean(0)

    found = most_sensitive(predict, x, unit_noise(rand - 0.5), float(g["vat_xi"]))
    # Differences of nearly equal probabilities in float32: the file's own rounding shows in its small entries.
    expected = tensor(g["vat_r"], torch.float32)
    assert (float(g["vat_eps"]) * found - expected).norm() < 1e-3 * expected.norm()


def test_moving_average_of_parameters_and_buffers(g):
    class Flat(nn.Module):
        def __init__(self, row):
            super().__init__()
            first, second = tensor(row, torch.float32).tensor_split(2)
            self.weight = nn.Parameter(first)
            self.register_buffer("statistics", second)

    teacher, student = Flat(g["ema_teacher_before"]), Flat(g["ema_student"])
    for update in (ema_update, ema_update_buffers):
        update(teacher, student, float(g["ema_keep_rate"]))
    close(torch.cat([teacher.weight, teacher.statistics]), g["ema_teacher_after"], **CLOSE)


def test_constants(g):
    c = entry("psmt-official").configure({})
    assert c.decay == float(g["ema_keep_rate"])
    assert c.noise_length == float(g["vat_eps"])
    for step, weight in zip(g["iterations"].tolist(), g["unsup_weight_1p5_ramp_1200_iters"], strict=True):
        close(c.weight * sigmoid_ramp(step, 1200), weight, **CLOSE)
