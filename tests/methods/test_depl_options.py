"""Options of DePL on networks that answer with given logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from semiseg.batches.batch import Batch
from stand_ins import StandIn, loss_of, make_method

SHAPE = (3, 4, 5, 6)


def logits(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * 2


def after_one_step(**options):
    """The method with a prior that is not flat any more, and its second step's loss."""
    method = make_method("depl", SHAPE, threshold=0.6, momentum=0.5, **options)
    batch = Batch(torch.rand(3, 1, 5, 6), torch.zeros(1, 5, 6, dtype=torch.long))
    for index in (0, 1):
        method.nets[index] = StandIn(logits(index))
    loss_of(method, batch)
    before = [q.value.clone() for q in method.priors]
    return method, before, loss_of(method, batch).terms["cross"]


@pytest.mark.parametrize("prior", ["position", "class"])
@pytest.mark.parametrize("marginal", [False, True])
@pytest.mark.parametrize("cross_on", ["all", "unlabelled"])
@pytest.mark.parametrize("tau", [1.0, 0.3])
def test_cross_loss(prior, marginal, cross_on, tau):
    method, before, cross = after_one_step(prior=prior, marginal=marginal, cross_on=cross_on, tau=tau)
    expected, first = 0.0, 0 if cross_on == "all" else 1
    for trained, other in ((0, 1), (1, 0)):
        debiased = (logits(other) - tau * before[other].log()).softmax(1)
        keep = debiased.max(1).values >= 0.6
        assert keep.any()
        assert not keep.all()
        z = logits(trained) + (tau * method.priors[trained].value.log() if marginal else 0)
        each = F.cross_entropy(z, debiased.argmax(1), reduction="none") * keep
        expected = expected + each[first:].mean()
    torch.testing.assert_close(cross, expected)


def test_no_confident_label_gives_zero_with_zero_gradient():
    method = make_method("depl", SHAPE, threshold=1.0)
    z = logits(0).requires_grad_()
    method.nets[0], method.nets[1] = StandIn(z), StandIn(logits(1))
    batch = Batch(torch.rand(3, 1, 5, 6), torch.zeros(1, 5, 6, dtype=torch.long))
    cross = loss_of(method, batch).terms["cross"]
    cross.backward()
    assert cross == 0
    assert not z.grad.any()


def test_both_predict():
    method = make_method("depl", SHAPE)
    method.nets[0], method.nets[1] = StandIn(logits(0)), StandIn(logits(1))
    torch.testing.assert_close(method.predict(torch.zeros(3, 1, 5, 6)), ((logits(0) + logits(1)) / 2).softmax(1))
