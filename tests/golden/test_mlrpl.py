"""MLRPL against its official code: whole steps through the method's own `step`, weights, masks and prototypes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.methods.mlrpl.reliability import reliability, sample_prototypes
from semiseg.networks import build_network
from stand_ins import clock, close, labels, leaf, loss_of, make_method, tensor

CLOSE = {"rtol": 1e-4, "atol": 1e-6}
CASES = ["a", "absent"]


@pytest.fixture(scope="module")
def g():
    return golden("mlrpl")


class TwoDecoders(nn.Module):
    def __init__(self, logits, features):
        super().__init__()
        self.found = list(zip(logits, features, strict=True))

    def decode_with_embeddings(self, images):
        return self.found


@pytest.mark.parametrize("case", CASES)
def test_steps(g, case):
    logits = [leaf(g[f"{case}_logits{k}"], torch.float32) for k in (1, 2)]
    features = [leaf(g[f"{case}_feat{k}"], torch.float32) for k in (1, 2)]
    options = {"labelled_weight": float(g["lamda"]), "weight": float(g["consistency"])}
    method = make_method("mlrpl-official", logits[0].shape, **options)
    method.net = TwoDecoders(logits, features)
    n = len(logits[0]) // 2
    batch = Batch(torch.ones(len(logits[0]), 1, *logits[0].shape[2:]), labels(g[f"{case}_labels"])[:n])
    loss = loss_of(method, batch)
    close(loss.terms["supervised"], g[f"{case}_loss_dice"], **CLOSE)
    close(loss.terms["mutual"], g[f"{case}_loss_consist"], **CLOSE)
    for term, weight, key in (("mutual", 1.0, "consist"), ("supervised", options["labelled_weight"], "half_dice")):
        found = torch.autograd.grad(weight * loss.terms[term], logits, retain_graph=True)
        for k, gradient in enumerate(found, 1):
            close(gradient, g[f"{case}_grad_{key}_{k}"], **CLOSE)
    assert all(found is None for found in torch.autograd.grad(loss.total, features, allow_unused=True))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("student", "teacher"), [(1, 2), (2, 1)])
def test_reliability(g, case, student, teacher):
    z = {k: tensor(g[f"{case}_logits{k}"], torch.float32) for k in (1, 2)}
    features = tensor(g[f"{case}_feat{teacher}"], torch.float32)
    mask, weight = reliability(z[student], z[teacher], features)
    np.testing.assert_array_equal(mask, g[f"{case}_mask_student{student}_teacher{teacher}"] == 1)
    close(weight, g[f"{case}_weight_student{student}_teacher{teacher}"], **CLOSE)
    found = sample_prototypes(features, hard_labels(z[teacher]), z[teacher].shape[1])
    close(found, g[f"{case}_proto_teacher{teacher}"], **CLOSE)


def test_schedule(g):
    options = {"weight": float(g["consistency"]), "ramp_length": float(g["consistency_rampup"])}
    config = make_method("mlrpl-official", (2, 2, 8, 8), **options).config
    for i, weight in zip(g["iterations"].tolist(), g["consistency_weight"], strict=True):
        close(config.weight * config.ramp_up(clock(step=i)), weight, rtol=1e-6)


def test_size():
    options = {"channels": 1, "classes": 2, "spatial_dims": 3, "upsamplings": ("transposed", "nearest")}
    net = build_network("vnet", network="branches", **options)
    assert sum(p.numel() for p in net.parameters()) == 12_347_716
