from __future__ import annotations

import math

import pytest
import torch

from semiseg.ingredients.confidence import (
    SelectionOptions,
    Selector,
    SelfAwareThresholds,
    entropy,
    low_entropy,
    monte_carlo_mean,
    probable,
)


def probabilities(classes=3, shape=(4, 5), seed=0):
    return torch.randn(2, classes, *shape, generator=torch.Generator().manual_seed(seed)).softmax(1)


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


def test_thresholds_choose_by_the_class_of_the_label():
    found = SelfAwareThresholds(2, 1, 0.9, None)
    found.value.copy_(torch.tensor([[0.6], [0.8]]))
    p = torch.tensor([[0.7, 0.3], [0.3, 0.7], [0.1, 0.9], [0.6, 0.4]]).T.unsqueeze(0)
    labels = p.max(1).indices
    assert found.keep(0, p, labels).tolist() == [[True, False, True, False]]


def test_thresholds_ignore_what_is_not_finite():
    found = SelfAwareThresholds(3, 2, 0.5, (0.0, 1.0))
    found.follow(1, torch.tensor([0.9, torch.nan, 0.0]))
    torch.testing.assert_close(found.value[:, 1], torch.tensor([(1 / 3 + 0.9) / 2, 1 / 3, 1 / 3]))
    torch.testing.assert_close(found.value[:, 0], torch.full((3,), 1 / 3))


@pytest.mark.parametrize("per_level", [True, False])
def test_selector_keeps_thresholds_per_level_or_one(per_level):
    selector = Selector(SelectionOptions(threshold_per_level=per_level), 3, 2)
    levels = [probabilities(shape=(2, 3)), probabilities(seed=1)]
    labels = [p.max(1).indices for p in levels]
    selector.follow([p.log() for p in levels], labels)
    assert selector.thresholds.value.shape == (3, 2 if per_level else 1)
    last = SelfAwareThresholds(3, 1, 0.99, (1 / 3, 0.95))
    last.update(0, levels[-1].log(), labels[-1])
    torch.testing.assert_close(selector.thresholds.value[:, -1:], last.value)
    keep = selector.keep(lambda _: [], torch.zeros(0), levels, 1.0)
    assert [m.shape for m in keep] == [y.shape for y in labels]
