from __future__ import annotations

import numpy as np
import pytest
import torch

from semiseg.ingredients.class_weights import (
    CountedWeights,
    DiffDW,
    DistDW,
    FixedWeights,
    crest_weights,
    inverse_roots,
    make_weights,
    reversed_shares,
    simis_weights,
)


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


def slow_reversed(counts, exponent=1 / 3):
    shares = [((n + 1e-8) / (max(counts) + 1e-8)) ** exponent for n in counts]
    order = sorted(range(len(counts)), key=lambda c: -shares[c])  # stable
    found = [0.0] * len(counts)
    for rank, c in enumerate(order):
        found[c] = shares[order[len(counts) - 1 - rank]]
    return np.array(found)


@pytest.mark.parametrize("counts", [[9, 3, 1, 0], [1, 3, 9, 3], [5, 5, 5, 5], [7, 0, 0, 0], [0, 2, 0, 8]])
def test_reversed_shares_follow_their_definition(counts):
    found = reversed_shares(torch.tensor(counts, dtype=torch.float32), 0.5)
    np.testing.assert_allclose(found, slow_reversed(counts, 0.5), rtol=1e-5)


def test_weights_by_reversed_rank_follow_unlabelled_patches():
    weights, expected = crest_weights([90, 9, 1], 0.9, 0.5), slow_reversed([90, 9, 1], 0.5)
    np.testing.assert_allclose(weights.weight, expected, rtol=1e-5)
    predicted = torch.tensor([[0, 0, 0, 0], [2, 2, 1, 2]])
    found = weights.update(predicted, torch.zeros(1, 4, dtype=torch.long))
    np.testing.assert_allclose(found, 0.9 * expected + 0.1 * slow_reversed([0, 1, 3], 0.5), rtol=1e-5)


def test_weights_by_distance_follow_all_patches():
    weights = simis_weights([6, 3, 1], 0.9)
    start = 0.9 * 3 + 0.1 * 3 * np.array([0.0, 0.3, 0.5])
    np.testing.assert_allclose(weights.weight, start, rtol=1e-5)
    found = weights.update(torch.tensor([[0, 0, 0, 0], [2, 2, 1, 2]]), torch.zeros(1, 4, dtype=torch.long))
    np.testing.assert_allclose(found, 0.9 * start + 0.1 * 3 * np.array([0.0, 3 / 8, 1 / 8]), rtol=1e-5)


def test_weights_by_labelled_voxels_do_not_change():
    weights = make_weights("cld", [27000, 1000, 0], 50, 0.9, strict=False)
    assert isinstance(weights, FixedWeights)
    np.testing.assert_allclose(weights.weight, [1.0, 3.0, 30.0], rtol=1e-5)
    assert torch.equal(weights.update(torch.ones(2, 4).long(), torch.ones(1, 4).long()), weights.weight)
    np.testing.assert_allclose(inverse_roots(torch.tensor([8.0, 2.0]), 0.5), [1.0, 2.0])


def test_the_family_by_name():
    for kind, expected in (("crest", crest_weights([5, 2], 0.9)), ("simis", simis_weights([5, 2], 0.9))):
        found = make_weights(kind, [5, 2], 50, 0.9, strict=False)
        assert isinstance(found, CountedWeights)
        assert (found.on, found.momentum) == (expected.on, 0.9)
        assert torch.equal(found.weight, expected.weight)
