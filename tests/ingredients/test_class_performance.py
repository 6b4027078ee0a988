from __future__ import annotations

import numpy as np
import pytest
import torch

from semiseg.ingredients.class_performance import ClassPerformance, class_indicators, fuzzy_ranks


def slow_indicators(p, labels, pairs):
    samples, classes = p.shape[:2]
    found = np.zeros((3, classes))
    for k in range(classes):
        count = (labels == k).sum() + 1e-12
        for i in range(samples):
            for j in range(samples) if pairs else [i]:
                here = labels[j] == k
                logs = np.log(p[i] + 1e-12).sum(0)
                found[0, k] += (p[i, k] * logs)[here].sum() / count
                found[1, k] += p[i, k][here].sum() / count
                found[2, k] += (p[i].max(0) - p[i, k])[here].sum() / count
    return found


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("samples", [1, 3])
def test_indicators_follow_the_definition(pairs, samples):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(samples, 4, 5, 6, generator=generator)
    labels = torch.randint(3, (samples, 5, 6), generator=generator)  # class 3 is absent
    found = class_indicators(logits, labels, pairs=pairs)
    expected = slow_indicators(logits.softmax(1).double().numpy(), labels.numpy(), pairs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert not found[:, 3].any()


def test_only_the_best_keep_their_rank():
    shares = torch.tensor([[0.1, 0.4, 0.2, 0.3]] * 3)
    ranks, rest = fuzzy_ranks(shares, kept=2)
    own = 1 - np.exp(-np.exp(-2 * np.array([0.4, 0.3])))
    np.testing.assert_allclose(ranks[0], [0.632, own[0], 0.632, own[1]], rtol=1e-6)
    np.testing.assert_allclose(rest, [1.0, 0.6, 1.0, 0.7], rtol=1e-6)


def test_ties_are_kept_and_few_classes_all_keep_theirs():
    tied, _ = fuzzy_ranks(torch.tensor([[0.4, 0.2, 0.2, 0.2]] * 3), kept=2)
    assert (tied < 0.632).all()
    few, rest = fuzzy_ranks(torch.tensor([[0.9, 0.1]] * 3))
    assert (few < 0.632).all()
    np.testing.assert_allclose(rest, [0.1, 0.9], rtol=1e-5)


def test_the_score_moves_once_per_window_and_the_best_known_class_has_the_highest():
    torch.manual_seed(0)
    labels = torch.randint(3, (2, 9, 9))
    logits = torch.randn(2, 3, 9, 9)
    logits += 8.0 * torch.nn.functional.one_hot(labels, 3).movedim(-1, 1) * (labels == 0).unsqueeze(1)
    performance = ClassPerformance(3, pairs=False)
    values = [performance.update(logits, labels, step, 3, 0.5) for step in range(6)]
    assert [bool(value.any()) for value in values] == [False, False, True, True, True, True]
    assert torch.equal(values[3], values[2])
    assert not torch.equal(values[5], values[2])
    assert values[5].argmax() == 0
    torch.testing.assert_close(values[2].max(), torch.tensor(0.5))
