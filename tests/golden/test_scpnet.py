"""SCP-Net against its code: prototypes, nearness, and whole steps through the method's own `step`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.losses import cross_entropy, soft_dice
from semiseg.methods.base import entry
from semiseg.methods.scpnet import PLAIN_DICE, nearness, soft_prototypes
from semiseg.settings.run import OptimiserConfig
from semiseg.training.optim import learning_rate
from stand_ins import StandIn, clock, close, labels, leaf, loss_of, make_method, tensor

CLOSE = {"rtol": 1e-4, "atol": 1e-6}


@pytest.fixture(scope="module")
def g():
    return golden("scpnet")


class Embedded(StandIn):
    """Gives logits and what the head received."""

    def __init__(self, logits, features):
        super().__init__(logits)
        self.embedding = features

    def forward(self, x, taps=(), *, dropout=None):
        return self.clean, {"embedding": self.embedding}


@pytest.mark.parametrize("case", ["a", "absent"])
def test_steps(g, case):
    logits, features = leaf(g[f"{case}_logits"], torch.float32), tensor(g[f"{case}_features"], torch.float32)
    target, n = labels(g[f"{case}_labels"]), int(g[f"{case}_n_labelled"])
    target = target[:n]
    method = make_method("scpnet-official", logits.shape, ramp="none", weight=1.0)
    method.net = Embedded(logits, features)
    loss = loss_of(method, Batch(torch.ones(len(logits), 1, *logits.shape[2:]), target))
    close(loss.terms["self"], g[f"{case}_loss_self"], **CLOSE)
    close(loss.terms["cross"], g[f"{case}_loss_cross"], **CLOSE)
    close(loss.terms["supervised"], g[f"{case}_loss_sup"], **CLOSE)
    close(cross_entropy(logits[:n], target), g[f"{case}_loss_ce"], **CLOSE)
    close((1 + soft_dice(logits[:n], target, PLAIN_DICE)) / 2, g[f"{case}_loss_dice"], **CLOSE)
    consistency = (loss.terms["self"] + loss.terms["cross"]) / 2
    close(consistency, g[f"{case}_loss_consistency"], **CLOSE)
    close(loss.total, loss.terms["supervised"] + consistency, **CLOSE)
    for term, name in ((consistency, "consistency"), (loss.terms["supervised"], "sup")):
        (found,) = torch.autograd.grad(term, logits)
        close(found, g[f"{case}_grad_{name}_wrt_logits"], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("case", ["a", "absent"])
def test_nearness(g, case):
    features, p = tensor(g[f"{case}_features"]), tensor(g[f"{case}_logits"]).softmax(1)
    found = soft_prototypes(features, p)
    close(found, g[f"{case}_prototypes"], **CLOSE)
    x = F.normalize(features.flatten(2), dim=1)
    cosines = torch.einsum("izn,jcz->injc", x, F.normalize(found, dim=2))
    close(cosines, g[f"{case}_similarity"], **CLOSE)
    near = nearness(features, p)
    close(1 - near.doubt.flatten(1), g[f"{case}_agreement_weight"], rtol=1e-4, atol=1e-5)
    own = tensor(g[f"{case}_self_similarity"]).softmax(2)
    close(near.own.flatten(2).transpose(1, 2), own, **CLOSE)
    close(near.others.flatten(2).transpose(1, 2), g[f"{case}_cross_similarity"], **CLOSE)


def test_what_is_described_weighs_the_other_voxels(g):
    logits, features = tensor(g["a_logits"], torch.float32), tensor(g["a_features"], torch.float32)
    batch = Batch(torch.ones(len(logits), 1, *logits.shape[2:]), labels(g["a_labels"])[:2])
    found = []
    for name in ("scpnet", "scpnet-paper"):
        method = make_method(name, logits.shape)
        method.net = Embedded(logits, features)
        found.append(loss_of(method, batch).terms["cross"])
    p = logits.softmax(1)
    near = nearness(features, p)
    whole = (near.own.amax(1, keepdim=True) * (near.others - p).square()).mean()
    close(found[0] + found[1], whole, rtol=1e-5)


def test_schedules(g):
    official, default = (entry(name).configure({}) for name in ("scpnet-official", "scpnet"))
    sgd = OptimiserConfig(name="sgd", lr=0.1, schedule="poly")
    for step, weight, lr in zip(g["iterations"].tolist(), g["consistency_weight"], g["lr"], strict=True):
        at = clock(step=step, steps=40_000)
        close(official.weight * official.ramp_up(at), weight, **CLOSE)
        close(default.weight * default.ramp_up(at), weight, rtol=0.05)
        close(learning_rate(sgd, step, 40_000), lr, **CLOSE)
