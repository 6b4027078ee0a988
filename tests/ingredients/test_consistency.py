from __future__ import annotations

import numpy as np
import pytest
import torch

from semiseg.ingredients.consistency import add_noise, noisy, probability_mse
from semiseg.ingredients.ensemble import ensemble_probabilities
from slow_losses import probabilities


def logits(seed, dtype=torch.float64):
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_squared_difference_of_probabilities():
    a, b = logits(0).requires_grad_(), logits(1).requires_grad_()
    expected = np.mean((probabilities(a.detach().numpy()) - probabilities(b.detach().numpy())) ** 2)
    value = probability_mse(a, b)
    value.backward()
    assert value.item() == pytest.approx(expected)
    assert b.grad is None
    torch.autograd.gradcheck(lambda z: probability_mse(z, b), a)
    assert probability_mse(a[:0], b[:0]) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_huge_logits_stay_finite(dtype):
    a = (logits(0).sign() * 1e4).to(dtype).requires_grad_()
    value = probability_mse(a, -a)
    value.backward()
    assert value.isfinite()
    assert a.grad.isfinite().all()


def test_noise_is_cut_at_two_deviations():
    images, normal = torch.ones(5), torch.tensor([0.0, 1.0, -1.5, 3.0, -9.0])
    torch.testing.assert_close(add_noise(images, normal, 0.1), torch.tensor([1.0, 1.1, 0.85, 1.2, 0.8]))


def test_ensemble_is_the_softmax_of_the_mean():
    a, b = logits(0), logits(1)
    mean = ensemble_probabilities([lambda x: a, lambda x: b], torch.zeros(1))
    torch.testing.assert_close(mean, ((a + b) / 2).softmax(1))
    low = ensemble_probabilities([lambda x: a.bfloat16()], torch.zeros(1))
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.sum(1), torch.ones(2, 4, 5))


def test_noise_is_drawn_only_where_there_is_some():
    images = torch.randn(2, 1, 5, 5)
    before = torch.get_rng_state()
    assert noisy(images, 0.0) is images
    assert torch.equal(torch.get_rng_state(), before)
    moved = noisy(images, 0.1)
    torch.set_rng_state(before)
    assert torch.equal(moved, add_noise(images, torch.randn_like(images), 0.1))
    assert not torch.equal(moved, images)
