"""MICD against reference values, and official ones where its parts are DHC's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.class_weights import DistDW
from semiseg.ingredients.ema import ema_decay, ema_update
from semiseg.ingredients.features import channel_kl, decoder_consistency, stage_weights
from semiseg.ingredients.losses import cross_entropy
from semiseg.ingredients.ramps import polynomial_decay, sigmoid_ramp
from semiseg.methods.micd.masking import Masking, MaskingOptions, block_grid, block_mask
from stand_ins import GivenWeights, StandIn, clock, close, counts, labels, leaf, loss_of, make_method, tensor

LOSS = 1e-6
GRADIENT = {"rtol": 1e-5, "atol": 1e-9}


@pytest.fixture(scope="module")
def g():
    return golden("micd")


def test_masks(g, monkeypatch):
    images, uniform = tensor(g["mask_x"]), tensor(g["mask_u"])
    block, shape = g["mask_patch"].tolist(), g["mask_x"].shape[2:]
    assert block_grid(shape, block) == tuple(g["mask_grid"].tolist())
    visible = block_mask(uniform, float(g["mask_ratio"]), block, shape)
    np.testing.assert_array_equal(visible.numpy(), g["mask"].astype(bool))
    monkeypatch.setattr(torch, "rand", lambda *size, device: uniform)
    options = MaskingOptions(mask_ratio=float(g["mask_ratio"]), mask_block=tuple(block))
    np.testing.assert_array_equal(Masking(options, len(shape)).hide(images).numpy(), g["mask_x_masked"])
    close(visible.double().mean(), g["mask_keep_fraction"], rtol=1e-12)
    for ratio in (0, 1):
        mask = block_mask(uniform, ratio, block, shape)
        np.testing.assert_array_equal(mask.numpy(), g[f"mask_r{ratio}"].astype(bool))


class Steps:
    """The file's consecutive steps, through the method's own `step`."""

    def __init__(self, g, given_weights=True, **options):
        self.g, self.given = g, given_weights
        self.shape = g["step_logits_As"].shape[1:]
        voxels = counts(g["init_labels"], int(g["num_cls"]))
        last = int(g["sched_max_epoch"])
        self.method = make_method(
            "micd-paper",
            self.shape,
            voxels,
            weight=float(g["sched_beta_max"]),
            ramp="epochs",
            ramp_length=last,
            **options,
        )
        self.count = len(g["step_sup"])

    def run(self, t):
        g, method = self.g, self.method
        features = [[leaf(g[f"step_feat{k}_{net}"][t]) for k in range(1, self.stages + 1)] for net in ("As", "Bs")]
        for index, name in enumerate("AB"):
            clean, masked = (leaf(g[f"step_logits_{kind}{name}s"][t]) for kind in ("", "m"))
            method.students[index] = StandIn(clean, masked, features[index])
            if len(method.teachers):
                method.teachers[index].net = StandIn(tensor(g[f"step_logits_{name}t"][t]))
            if self.given:
                weight = tensor(g["step_wdiff" if name == "A" else "step_wdist"][t])
                method.class_weights[index] = GivenWeights(weight)
        target = labels(g["step_label"][t], channel=True)
        assert len(target) == int(g["n_labelled"])
        # The schedule lags by one epoch, so the value of epoch e is used in epoch e + 1.
        epoch = int(np.argmin(np.abs(g["sched_beta_raw"] - g["step_beta"][t]))) + 1
        return loss_of(method, Batch(torch.ones(self.shape[0], 1, *self.shape[2:]), target), clock(epoch=epoch))

    @property
    def stages(self):
        return len(self.g["lambda_k"])


def test_steps(g):
    steps = Steps(g)
    for t in range(steps.count):
        loss = steps.run(t)
        loss.total.backward()
        for term, key in {"supervised": "sup", "mcpc": "cps", "cfc": "con", "cmd": "dis"}.items():
            close(loss.terms[term], g[f"step_{key}"][t], rtol=LOSS)
        assert set(loss.weights) == {"mcpc", "cfc", "cmd"}
        for weight in loss.weights.values():
            close(weight, g["step_beta"][t], rtol=1e-12)
        close(loss.total, g["step_total"][t], rtol=LOSS)
        for student, name in zip(steps.method.students, "AB", strict=True):
            close(student.clean.grad, g[f"step_grad_{name}s"][t], **GRADIENT)
            close(student.masked.grad, g[f"step_grad_m{name}s"][t], **GRADIENT)
            for k, feature in enumerate(student.features, 1):
                close(feature.grad, g[f"step_gfeat{k}_{name}s"][t], **GRADIENT)


def test_class_weights(g):
    classes = int(g["num_cls"])
    close(DistDW(counts(g["init_labels"], classes)).weight, g["init_wdist"], rtol=1e-3)
    steps = Steps(g, given_weights=False)
    for t in range(steps.count):
        steps.run(t)
        close(steps.method.observations()["class_weight_a"], g["step_wdiff"][t], rtol=1e-3)
        close(steps.method.observations()["class_weight_b"], g["step_wdist"][t], rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "term", "key"),
    [
        ({"mcpc": "clean_to_masked"}, "mcpc", "step_cps_clean_to_masked"),
        ({"mcpc": "off"}, "mcpc", "step_cps_dhc_unmasked"),
    ],
)
def test_options(g, options, term, key):
    steps = Steps(g, **options)
    for t in range(steps.count):
        close(steps.run(t).terms[term], g[key][t], rtol=LOSS)


def test_feature_divergence_in_other_directions_and_temperatures(g):
    for t in range(len(g["step_con_b_to_a"])):
        a, b = ([tensor(g[f"step_feat{k}_{net}"][t]) for k in range(1, len(g["lambda_k"]) + 1)] for net in ("As", "Bs"))
        forth, back = decoder_consistency(a, b), decoder_consistency(b, a)
        close(back, g["step_con_b_to_a"][t], rtol=LOSS)
        close((forth + back) / 2, g["step_con_symmetric"][t], rtol=LOSS)
        close(decoder_consistency([f / 2 for f in a], [f / 2 for f in b]), g["step_con_T2"][t], rtol=LOSS)


def test_feature_divergence_per_stage(g):
    close(stage_weights(len(g["lambda_k"])), g["lambda_k"], rtol=1e-12)
    for t, row in enumerate(g["step_kl_per_level"]):
        for k, value in enumerate(row, 1):
            a, b = (tensor(g[f"step_feat{k}_{net}"][t]) for net in ("As", "Bs"))
            close(channel_kl(a, b), value, rtol=LOSS)


def test_moving_average(g):
    teacher = nn.ParameterList([nn.Parameter(tensor(g["ema_init"]), requires_grad=False)])
    for t, row in enumerate(g["ema_student"]):
        decay = ema_decay(t, float(g["ema_alpha"]))
        close(decay, g["ema_alpha_used"][t], rtol=1e-12)
        ema_update(teacher, nn.ParameterList([nn.Parameter(tensor(row))]), decay)
        close(teacher[0], g["ema_teacher"][t], rtol=1e-12, atol=1e-12)


def test_schedules(g):
    last = int(g["sched_max_epoch"])
    for i, epoch in enumerate(g["sched_epoch"].tolist()):
        close(float(g["sched_base_lr"]) * polynomial_decay(epoch, last), g["sched_lr_raw"][i], rtol=1e-12)
        close(float(g["sched_beta_max"]) * sigmoid_ramp(epoch, last), g["sched_beta_raw"][i], rtol=1e-12)


def test_degenerate_cases(g):
    logits, weight = tensor(g["degen_logits"]), tensor(g["degen_weight"])
    background = torch.zeros(len(logits), *logits.shape[2:], dtype=torch.long)
    close(cross_entropy(logits, background, weight, strict=True), g["degen_wce_official"], rtol=LOSS, equal_nan=True)
    close(cross_entropy(logits, background, weight), g["degen_wce_guarded"], rtol=LOSS)
    close(cross_entropy(logits, background), g["degen_ce_plain"], rtol=LOSS)
    close(channel_kl(logits, logits.clone()), g["degen_kl_identical"], rtol=LOSS)
