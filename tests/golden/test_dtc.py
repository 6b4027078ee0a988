"""DTC against its official code: whole steps through the method's own `step`, distances and schedules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distance_checks import TwoHeads, check_distances, check_schedules
from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.signed_distance import signed_distances
from stand_ins import clock, close, labels, leaf, loss_of, make_method, tensor

CLOSE = {"rtol": 1e-6, "atol": 1e-9}


@pytest.fixture(scope="module")
def g():
    return golden("dtc")


@pytest.mark.parametrize("case", ["step", "step_near_zero_sdf", "step_all_empty"])
def test_steps(g, case):
    logits, distances = leaf(g[f"{case}/seg_logits"]), leaf(g[f"{case}/sdf_pre_tanh"])
    n, target = int(g[f"{case}/labeled_bs"]), labels(g[f"{case}/labels"])
    options = {"distance_weight": float(g[f"{case}/beta"]), "steepness": float(g[f"{case}/k"])}
    method = make_method("dtc-official", (len(logits), 2, *logits.shape[2:]), **options)
    method.net = TwoHeads(logits, distances)
    close(signed_distances(target[:n], 2).squeeze(1), g[f"{case}/gt_dis"], **CLOSE)
    close(torch.sigmoid(-options["steepness"] * torch.tanh(distances)), g[f"{case}/dis_to_mask"], **CLOSE)
    batch = Batch(torch.ones(len(logits), 1, *logits.shape[2:]), target[:n])
    loss = loss_of(method, batch, clock(step=int(g[f"{case}/iter_num"])))
    loss.total.backward()
    close(loss.terms["supervised"], g[f"{case}/loss_seg_dice"], **CLOSE)
    close(loss.terms["distance"], g[f"{case}/loss_sdf"], **CLOSE)
    supervised = loss.terms["supervised"] + options["distance_weight"] * loss.terms["distance"]
    close(supervised, g[f"{case}/supervised_loss"], **CLOSE)
    close(loss.terms["consistency"], g[f"{case}/consistency_loss"], **CLOSE)
    close(loss.weights["consistency"], g[f"{case}/weight"], **CLOSE)
    close(loss.total, g[f"{case}/loss"], **CLOSE)
    close(logits.grad, g[f"{case}/grad_seg_logits"], **CLOSE)
    close(distances.grad, g[f"{case}/grad_sdf_pre_tanh"], **CLOSE)
    logged = nn.functional.binary_cross_entropy_with_logits(logits[:n, 0], target[:n].double())
    close(logged, g[f"{case}/loss_seg_bce_logged"], rtol=1e-5)


def test_distances(g):
    check_distances(g)


def test_schedules(g):
    check_schedules(g, make_method("dtc-official", (2, 2, 8, 8)).config)


def test_distances_of_several_classes_are_those_of_each_alone():
    several = torch.randint(4, (2, 6, 7, 5), generator=torch.Generator().manual_seed(0))
    found = signed_distances(several, 4)
    for number in (1, 2, 3):
        alone = signed_distances((several == number).long(), 2)
        assert torch.equal(found[:, number - 1 : number], alone)
    flat = signed_distances(several[:, :, :, 0], 4)
    assert flat.shape == (2, 3, 6, 7)
    assert tensor(flat.numpy()).abs().max() <= 1
