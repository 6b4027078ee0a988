"""Options of DST on decoders that answer with given logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from semiseg.batches.batch import Batch
from semiseg.methods.base import Task, entry
from stand_ins import clock, loss_of

SHAPE = (3, 4, 5, 6)
LABELS = torch.zeros(1, 5, 6, dtype=torch.long)


def logits(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * 2


class Decoders(nn.Module):
    def __init__(self, first):
        super().__init__()
        self.logits = [logits(first + k).requires_grad_() for k in range(3)]
        self.decoders = nn.ModuleList(nn.Linear(1, 1) for _ in range(3))

    def decode(self, x, gradients):
        self.gradients = gradients
        return self.logits

    def forward(self, x):
        return self.logits[0].detach()


def make(**options):
    nets = iter([Decoders(0), Decoders(10)])
    options = {"threshold": 0.6, "ramp": "none", "weight": 1.0, **options}
    return entry("dst").build(options, Task(4, 1, 2, (1,) * 4), lambda **_: next(nets))


def step(method, labelled=1):
    return loss_of(method, Batch(torch.rand(3, 1, 5, 6), LABELS.expand(labelled, 5, 6)), clock(step=500, steps=1000))


def test_the_paper_s_form_labels_with_main_and_trains_pseudo():
    method = make(variant="dst")
    loss = step(method)
    a, b = method.nets
    expected = 0.0
    for net, other in ((a, b), (b, a)):
        confidence, target = other.logits[0].detach().softmax(1).max(1)
        keep = confidence > 0.6
        assert keep.any()
        expected = expected + (F.cross_entropy(net.logits[1], target, reduction="none") * keep).mean()
    torch.testing.assert_close(loss.terms["cross"], expected)
    loss.terms["cross"].backward()
    assert [z.grad is not None for z in a.logits] == [False, True, False]


@pytest.mark.parametrize("variant", ["dhc", "dst"])
def test_gradients_to_the_encoder_and_frozen_weights(variant):
    method = make(variant=variant, horizon=None)
    step(method)
    main, pseudo, worst = method.nets[0].gradients
    assert (main, pseudo) == (1.0, None if variant == "dhc" else 1.0)
    assert worst == pytest.approx(-0.2 / (1 + torch.e**-1) + 0.1)
    trained = [all(p.requires_grad for p in decoder.parameters()) for decoder in method.nets[1].decoders]
    assert trained == [True, variant == "dst", True]


def test_worst_case_loss_and_its_weights():
    method = make(worst_weight=0.5, margin=3.0)
    loss = step(method)
    expected = 0.0
    for net in method.nets:
        main, _, worst = net.logits
        y = main.argmax(1)
        p = worst.softmax(1).gather(1, y.unsqueeze(1))[1:]
        expected = expected + 3 * F.cross_entropy(worst[:1], y[:1]) - torch.log((1 - p + 1e-6).clamp(max=1)).mean()
    torch.testing.assert_close(loss.terms["worst"], expected)
    total = loss.terms["supervised"] + loss.terms["cross"] + 0.5 * loss.terms["worst"]
    torch.testing.assert_close(loss.total, total)


@pytest.mark.parametrize("labelled", [0, 3])
def test_one_kind_of_patches_alone(labelled):
    assert all(term.isfinite() for term in step(make(), labelled).terms.values())


def test_main_decoders_predict():
    method = make()
    mean = (logits(0) + logits(10)) / 2
    torch.testing.assert_close(method.predict(torch.zeros(3, 1, 5, 6)), mean.softmax(1))
