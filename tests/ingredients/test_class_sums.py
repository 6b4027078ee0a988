from __future__ import annotations

import numpy as np
import pytest
import torch

from semiseg.ingredients.class_sums import (
    _by_masks,
    _by_scatter,
    _count_by_masks,
    _count_by_scatter,
    class_counts,
    class_sums,
)
from slow_losses import probabilities


@pytest.mark.parametrize("squared", [False, True])
def test_equal_to_slow_sums(squared):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 5, 2, generator=generator, dtype=torch.float64)
    target = torch.randint(3, (2, 3, 5, 2), generator=generator)
    sums = class_sums(logits, target, squared=squared)
    p, t = probabilities(logits.numpy()), target.numpy().ravel()
    for c in range(4):
        own = p[t == c, c]
        expected = -np.log(own).sum(), own.sum(), (p[:, c] ** (2 if squared else 1)).sum(), (t == c).sum()
        assert [float(value[c]) for value in sums] == pytest.approx(expected)


@pytest.mark.parametrize("squared", [False, True])
def test_gradients_of_every_sum(squared):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randint(3, (2, 2, 3), generator=generator)
    torch.autograd.gradcheck(lambda z: tuple(class_sums(z, target, squared=squared)[:3]), logits)


def test_both_ways_of_summing_agree():
    labels = torch.randint(5, (3, 7, 6), generator=torch.Generator().manual_seed(2))
    values = torch.rand(3, 7, 6, dtype=torch.float64)
    torch.testing.assert_close(_by_scatter(values, labels, 6), _by_masks(values, labels, 6))
    expected = np.bincount(labels.numpy().ravel(), minlength=6).tolist()
    assert [count(labels, 6).tolist() for count in (class_counts, _count_by_masks, _count_by_scatter)] == 3 * [expected]


def test_small_terms_are_not_swallowed_by_a_large_sum():
    values = torch.full((1, 4_000_000), 1e-3)
    values[0, :1000] = 1000.0
    labels = torch.zeros(1, 4_000_000, dtype=torch.long).reshape(1, 2000, 2000)
    total = _by_scatter(values.reshape(1, 2000, 2000), labels, 1)
    assert total.item() == pytest.approx(1e6 + 3999, rel=1e-4)
