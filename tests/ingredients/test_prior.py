"""Running means of predictions."""

from __future__ import annotations

import pytest
import torch

from semiseg.ingredients.prior import PredictionPrior


def logits(seed=0, batch=3):
    return torch.randn(batch, 4, 5, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["class", "position"])
def test_mean_over_what_is_asked(kind):
    prior = PredictionPrior(4, 2, kind, 0.9)
    expected = torch.full((4, 5, 6), 0.25)
    for seed in range(3):
        prior.update(logits(seed))
        p = logits(seed).softmax(1).mean(0)
        expected = 0.9 * expected + 0.1 * (p.mean((1, 2), keepdim=True) if kind == "class" else p)
    assert prior.value.shape == ((1, 4, 1, 1) if kind == "class" else (1, 4, 5, 6))
    torch.testing.assert_close(prior.value.expand(1, 4, 5, 6)[0], expected)
    torch.testing.assert_close(prior.bias(0.5), 0.5 * prior.value.log())


@pytest.mark.parametrize("kind", ["class", "position"])
def test_no_samples_change_nothing(kind):
    prior = PredictionPrior(4, 2, kind, 0.9)
    prior.update(logits())
    before = prior.value.clone()
    prior.update(logits()[:0])
    assert torch.equal(prior.value, before)


@pytest.mark.parametrize("updates", [0, 2])
def test_a_fresh_one_takes_the_state_whatever_its_shape(updates):
    first, second = PredictionPrior(4, 2, "position", 0.9), PredictionPrior(4, 2, "position", 0.9)
    for _ in range(updates):
        first.update(logits())
    second.update(logits(7))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.value, second.value)
    first.update(logits(8))
    second.update(logits(8))
    assert torch.equal(first.value, second.value)


def test_a_class_that_is_never_predicted_stays_finite():
    prior = PredictionPrior(2, 2, "class", 0.0)
    prior.update(torch.tensor([200.0, -200.0]).view(1, 2, 1, 1))
    assert prior.value.min() == 0
    assert prior.bias().isfinite().all()
