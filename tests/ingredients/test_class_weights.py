from __future__ import annotations

import numpy as np
import pytest
import torch

from semiseg.ingredients.class_weights import DiffDW, DistDW, make_weights


def slow_difficulty(dices, window):
    """The recursion of the paper's code, class by class, in float64."""
    classes, keep = len(dices[0]), (window - 1) / window
    before, up, down, missing = (np.full(classes, value) for value in (1e-8, 0.0, 0.0, 1.0))
    for dice in dices:
        for c in range(classes):
            delta, growth = dice[c] - before[c], np.log(dice[c] / before[c])
            up[c] = keep * up[c] + (1 - keep) * (delta * growth if delta > 0 else 0)
            down[c] = keep * down[c] + (1 - keep) * (delta * growth if delta < 0 else 0)
            missing[c] = keep * missing[c] + (1 - keep) * (1 - dice[c])
            before[c] = dice[c]
    raw = ((down + 1e-8) / (up + 1e-8)) ** 0.2 * missing
    return classes * raw / raw.max()


def slow_rarity(counts):
    rare = np.log((max(counts) + 1e-8) / (np.asarray(counts, float) + 1e-8))
    return len(counts) * rare / rare.max()


@pytest.mark.parametrize("window", [5, 50])
def test_difficulty_follows_the_slow_recursion(window):
    rng = np.random.default_rng(0)
    dices = rng.uniform(0.05, 0.95, (12, 4))
    weights = DiffDW(4, window)
    for t, dice in enumerate(dices, 1):
        weights.follow(torch.from_numpy(dice).float())
        np.testing.assert_allclose(weights.weight, slow_difficulty(dices[:t], window), rtol=1e-3)
    assert weights.weight.max() == pytest.approx(4)


def test_rarity_follows_the_slow_recursion():
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 1000, (6, 5))
    weights, expected = DistDW(counts[0].tolist(), 0.9), slow_rarity(counts[0])
    for row in counts[1:]:
        weights.follow(torch.from_numpy(row))
        expected = 0.9 * expected + 0.1 * slow_rarity(row)
        np.testing.assert_allclose(weights.weight, expected, rtol=1e-5)


def test_which_part_of_the_batch_counts():
    predicted = torch.tensor([[[0, 0], [0, 1]], [[2, 2], [2, 1]]])
    labels = torch.tensor([[[0, 0], [1, 1]]])
    difficulty, rarity = DiffDW(3), DistDW([5, 3, 1], 0.0)
    difficulty.update(predicted, labels)
    np.testing.assert_allclose(difficulty.dice, [0.8, 2 / 3, 0.5], rtol=1e-6)
    np.testing.assert_allclose(rarity.update(predicted, labels), slow_rarity([0, 1, 3]), rtol=1e-5)


def test_weights_stay_without_their_part_of_the_batch():
    predicted = torch.randint(3, (2, 4, 4))
    difficulty, rarity = DiffDW(3), DistDW([5, 3, 1])
    before = [difficulty.weight.clone(), rarity.weight.clone()]
    difficulty.update(predicted, predicted[:0])
    rarity.update(predicted, predicted)
    assert torch.equal(difficulty.weight, before[0])
    assert torch.equal(rarity.weight, before[1])


def test_equally_frequent_classes_keep_the_weights_unless_strict():
    kept, strict = DistDW([4, 2, 1]), DistDW([4, 2, 1], strict=True)
    before = kept.weight.clone()
    for weights in (kept, strict):
        weights.follow(torch.tensor([7, 7, 7]))
    assert torch.equal(kept.weight, before)
    assert strict.weight.isnan().all()


def test_a_returned_weight_does_not_change_later():
    weights = DistDW([4, 2, 1], 0.5)
    labels = torch.zeros(0, 2, 2, dtype=torch.long)
    first = weights.update(torch.tensor([[[0, 0], [1, 2]]]), labels)
    copy = first.clone()
    weights.update(torch.tensor([[[2, 2], [1, 2]]]), labels)
    assert torch.equal(first, copy)


def test_kinds():
    assert isinstance(make_weights("diff", [1, 2], 50, 0.9, strict=False), DiffDW)
    assert isinstance(make_weights("dist", [1, 2], 50, 0.9, strict=False), DistDW)
    plain = make_weights("none", [1, 2], 50, 0.9, strict=False)
    predicted = torch.ones(1, 2, 2, dtype=torch.long)
    assert plain.update(predicted, predicted[:0]).tolist() == [1.0, 1.0]
