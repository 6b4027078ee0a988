"""Pi-model and temporal ensembling on networks that answer with given logits."""

from __future__ import annotations

import pytest
import torch

from semiseg.batches.augment import Params
from semiseg.batches.batch import Batch
from semiseg.batches.places import Place
from semiseg.ingredients.consistency import probability_mse
from semiseg.ingredients.losses import dice_ce
from stand_ins import StandIn, clock, loss_of, make_method

SHAPE = (3, 4, 8, 8)


def logits(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


class Alternating(StandIn):
    """Answers of several passes in turn, cut to the size of the input."""

    def __init__(self, *answers: torch.Tensor) -> None:
        super().__init__(answers[0])
        self.answers = answers

    def forward(self, x, taps=(), *, dropout=None):
        self.seen.append(x)
        answer = self.answers[(len(self.seen) - 1) % len(self.answers)][-len(x) :]
        return answer if torch.is_grad_enabled() else answer.detach()


@pytest.fixture
def batch() -> Batch:
    labels = torch.randint(4, (1, 8, 8), generator=torch.Generator().manual_seed(9))
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(8))
    return Batch(images, labels, ("a", "b", "c"))


@pytest.mark.parametrize("mutual", [False, True])
def test_pi_model_compares_two_passes(batch, mutual):
    a, b = logits(0).requires_grad_(), logits(1).requires_grad_()
    method = make_method("pi_model", SHAPE, mutual=mutual, ramp="none", weight=2)
    method.net = Alternating(a, b)
    loss = loss_of(method, batch)
    torch.testing.assert_close(loss.terms["consistency"], probability_mse(a, b))
    torch.testing.assert_close(loss.terms["supervised"], dice_ce(a[:1], batch.labels, "ssl4mis"))
    torch.testing.assert_close(loss.total, loss.terms["supervised"] + 2 * loss.terms["consistency"])
    loss.total.backward()
    assert (b.grad is not None) == mutual
    one, other = method.net.seen
    assert not torch.equal(one, other)
    assert float((one - batch.images).abs().max()) <= 0.2 + 1e-6


def test_pi_model_without_noise_sees_the_patch(batch):
    method = make_method("pi_model", SHAPE, noise=0)
    method.net = Alternating(logits(0))
    assert loss_of(method, batch).terms["consistency"] == 0
    assert all(torch.equal(x, batch.images) for x in method.net.seen)


def test_temporal_ensembling_has_the_target_of_earlier_visits(batch):
    """Z / (1 - a^t) by hand, for patches that are whole scans."""
    answers = [logits(seed) for seed in range(4)]
    method = make_method("temporal_ensembling", SHAPE, ramp="none", decay=0.6)
    method.net = Alternating(*answers)
    z = torch.zeros(SHAPE)
    for t, answer in enumerate(answers):
        steps = method.step(batch, clock(t))
        found = next(steps).terms["consistency"]
        assert next(steps, None) is None
        p = answer.softmax(1)
        target = z / (1 - 0.6**t) if t else p
        torch.testing.assert_close(found, (p - target).square().mean(), atol=1e-4, rtol=2e-3)
        z = 0.6 * z + 0.4 * p


def test_temporal_ensembling_reads_where_the_voxels_were(batch):
    """The same scan seen flipped: its predictions agree when they are flipped too."""
    flipped = tuple(Place((0, 0, 0), (8, 8), (8, 8, 1), Params(flips=(True, False))) for _ in range(3))
    plain = tuple(Place.whole((8, 8)) for _ in range(3))
    for places, expected in ((flipped, True), (plain, False)):
        method = make_method("temporal_ensembling", SHAPE)
        method.net = Alternating(logits(0), logits(0).flip(2))
        list(method.step(Batch(batch.images, batch.labels, batch.cases, plain), clock()))
        loss = loss_of(method, Batch(batch.images, batch.labels, batch.cases, places))
        assert bool(loss.terms["consistency"] < 1e-6) == expected


def test_unseen_voxels_have_no_target(batch):
    method = make_method("temporal_ensembling", SHAPE)
    method.net = Alternating(logits(0), logits(1))
    where = [tuple(Place((x, 0, 0), (8, 8), (20, 8, 1)) for _ in range(3)) for x in (0, 4, 12)]
    list(method.step(Batch(batch.images, batch.labels, batch.cases, where[0]), clock()))
    loss = loss_of(method, Batch(batch.images, batch.labels, batch.cases, where[1]))
    p, q = logits(1).softmax(1)[:, :, :4], logits(0).softmax(1)[:, :, 4:]
    torch.testing.assert_close(loss.terms["consistency"], (p - q).square().mean(), atol=1e-4, rtol=2e-3)
    assert loss_of(method, Batch(batch.images, batch.labels, batch.cases, where[2])).terms["consistency"] == 0
