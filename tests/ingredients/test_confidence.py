from __future__ import annotations

import math

import pytest
import torch

from semiseg.ingredients.confidence import entropy, low_entropy, monte_carlo_mean, probable


def test_fixed_rules():
    p = torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.0, 1.0]]).T.unsqueeze(0)
    assert probable(p, 0.9).tolist() == [[False, True, True]]
    assert entropy(p)[0].tolist() == pytest.approx([math.log(2), 0.3251, 0.0], abs=1e-4)
    assert low_entropy(p, 0.9).tolist() == [[False, True, True]]
    assert low_entropy(p, 0.9, ambiguous=True).tolist() == [[True, False, False]]


def test_mean_of_noisy_passes():
    torch.manual_seed(0)
    images, seen = torch.zeros(2, 1, 4, 4), []

    def predict(x):
        seen.append(x)
        return [x, 2 * x]

    fine, coarse = monte_carlo_mean(predict, images, 6, 0.1)
    assert [len(x) for x in seen] == [4, 4, 4]
    every = torch.cat(seen).view(6, 2, 1, 4, 4)
    torch.testing.assert_close(fine, every.mean(0))
    torch.testing.assert_close(coarse, 2 * fine)
    assert every.abs().max() <= 0.2 + 1e-6
    assert every.std() > 0.05
