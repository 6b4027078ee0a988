"""FUSSNet against its official code: losses through the method's own `step`, random logits, pseudo-labels, size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.methods.base import Task, entry
from semiseg.methods.fussnet.aleatoric import AleatoricHead, sampled_cross_entropy
from semiseg.methods.fussnet.labeller import agreement
from semiseg.methods.fussnet.losses import LOSSES, certain, cross_entropy, dice, iou
from semiseg.networks import build_network
from stand_ins import StandIn, clock, close, labels, leaf, loss_of, tensor

CLOSE = {"rtol": 1e-4, "atol": 1e-6}
CASES = ["a", "allcertain", "alluncertain"]
NAMES = ("ce", "dice", "focal", "iou")
LAYERS = {"mean_l": "mean", "log_cov_diag_l": "log_diagonal", "cov_factor_l": "factor"}


@pytest.fixture(scope="module")
def g():
    return golden("fussnet")


class FourBranches(StandIn):
    """Gives the logits of every branch for unlabelled images, before which it puts those of labelled ones."""

    shared_channels = 4

    def __init__(self, logits, labelled=None):
        super().__init__(logits[0])
        self.logits, self.labelled = logits, labelled

    def branch(self, images, *, dropout=None):
        found = self.logits if self.labelled is None else torch.cat([self.labelled, self.logits], 1)
        return list(found), images.new_ones(len(images), self.shared_channels, *images.shape[2:])


def method_for(shape, **options):
    task = Task(shape[1], 1, len(shape) - 2, (1,) * shape[1])
    return entry("fussnet-official").build(options, task, lambda **_: FourBranches(torch.zeros(4, *shape)))


@pytest.mark.parametrize("case", CASES)
def test_steps(g, case):
    student, teacher, source = (
        leaf(g[f"{case}_{name}_logits"], torch.float32) for name in ("student", "teacher", "pseudo_source")
    )
    labelled, y = leaf(g["sup_logits"], torch.float32), labels(g["sup_labels"])
    weight = float(g["al_weight_la"])
    method = method_for(student.shape[1:], aleatoric_weight=weight)
    method.student = FourBranches(student, labelled)
    method.teacher.net, method.labeller.net = FourBranches(teacher.detach()), FourBranches(source.detach())
    method.labeller.copy = lambda student: None
    images = torch.ones(len(y) + student.shape[1], 1, *y.shape[1:])
    loss = loss_of(method, Batch(images, y), clock(step=90, epoch=900, epochs=1000))
    close(loss.terms["supervised"], sum(float(g[f"sup_{name}"]) for name in NAMES) / 4, **CLOSE)
    close(loss.terms["certain"], g[f"{case}_certain_loss"], **CLOSE)
    close(loss.terms["uncertain"], g[f"{case}_uncertain_loss_weight1"], **CLOSE)
    parts = {"supervised": 4 / (4 + weight), "aleatoric": weight / (4 + weight), "certain": 1, "uncertain": 1}
    assert dict(loss.weights) == pytest.approx(parts)
    loss.total.backward()
    close(student.grad, g[f"{case}_grad"], **CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_pseudo_labels(g, case):
    source = tensor(g[f"{case}_pseudo_source_logits"], torch.float32)
    found, certain_mask = agreement(source)
    np.testing.assert_array_equal(found, g[f"{case}_pseudo_label"])
    np.testing.assert_array_equal(certain_mask, g[f"{case}_certain_mask"] == 1)
    for z, mask in zip(source, g[f"{case}_branch_masks"], strict=True):
        np.testing.assert_array_equal(z.softmax(1)[:, 1] >= 0.5, mask == 1)
    y, keep = labels(g[f"{case}_pseudo_label"]), tensor(g[f"{case}_certain_mask"]) == 1
    student = tensor(g[f"{case}_student_logits"], torch.float32)
    for k, (name, loss) in enumerate(zip(NAMES, LOSSES, strict=True)):
        value = loss(student[k], y, keep if loss in (dice, iou) else None)
        close(value if keep.any() else torch.zeros(()), g[f"{case}_{name}2"], **CLOSE)


def test_supervised_losses(g):
    logits, y = tensor(g["sup_logits"], torch.float32), labels(g["sup_labels"])
    for z, name, loss in zip(logits, NAMES, LOSSES, strict=True):
        close(loss(z, y), g[f"sup_{name}"], **CLOSE)
    nothing = torch.zeros_like(y)
    close(dice(logits[1], nothing), g["empty_dice"], **CLOSE)
    close(iou(logits[3], nothing), g["empty_iou"], **CLOSE)


def test_random_logits(g):
    features, y = leaf(g["al_feat"], torch.float32), labels(g["al_labels"])
    classes, rank = g["al_logit_mean"].shape[1], int(g["al_rank"])
    head = AleatoricHead(features.shape[1], classes, features.ndim - 2, rank)
    state = {}
    for key in (key for key in g if key.startswith("al_p_")):
        name, _, last = key.removeprefix("al_p_").partition("__")
        state[f"{LAYERS[name]}.{last}"] = tensor(g[key], torch.float32)
    head.load_state_dict(state)
    roi = labels(g["al_roi"])
    assert torch.equal(roi > 0, y > 0)
    mean, diagonal, factor = head.distribution(features, y)
    inside = (roi > 0).unsqueeze(1)
    epsilon = float(g["al_epsilon"])
    close(mean, g["al_logit_mean"], **CLOSE)
    close(diagonal, tensor(g["al_cov_diag"], torch.float32) * inside + epsilon, **CLOSE)
    close(factor, tensor(g["al_cov_factor"], torch.float32).view(factor.shape) * inside.unsqueeze(2), **CLOSE)
    w, v = (tensor(g[f"al_eps_{name}"], torch.float32) for name in "WD")
    assert 2 * len(w) == int(g["al_num_samples"])
    loss = sampled_cross_entropy(mean, diagonal, factor, y, w, v.view(len(v), *mean.shape))
    loss.backward()
    close(loss, g["al_loss"], **CLOSE)
    close(features.grad, g["al_grad_feat"], **CLOSE)


def test_weights_of_random_logits(g):
    assert method_for((1, 2, 4, 4, 4)).config.aleatoric_weight == float(g["al_weight_la"])


@pytest.mark.parametrize(("mask_all", "changed"), [(False, (0, 2)), (True, ())])
def test_mask_of_cross_entropy_and_focal_loss(mask_all, changed):
    """Logits of uncertain voxels matter to these two as published, and to none with the mask in all terms."""
    torch.manual_seed(0)
    logits, y = torch.randn(4, 2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    keep = torch.rand(2, 4, 4) > 0.5
    for k in range(4):
        moved = logits.clone()
        moved[k] += 3 * torch.randn(2, 3, 4, 4) * ~keep.unsqueeze(1)
        found = [certain(list(z), y, keep, mask_all=mask_all) for z in (logits, moved)]
        assert torch.equal(*found) == (k not in changed)
    alone = nn.functional.cross_entropy(logits[0].movedim(1, -1)[keep], y[keep])
    torch.testing.assert_close(cross_entropy(logits[0], y, keep), alone)


def test_size():
    options = {"channels": 1, "classes": 2, "spatial_dims": 3, "normalisation": "instance", "dropout": 0.0}
    net = build_network("vnet", network="late_branches", branches=4, **options)
    assert sum(p.numel() for p in net.parameters()) == 9_464_152
    head = AleatoricHead(net.shared_channels, 2, 3, rank=10)
    assert sum(p.numel() for p in head.parameters()) == 408
