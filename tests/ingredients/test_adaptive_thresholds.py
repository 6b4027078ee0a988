from __future__ import annotations

import numpy as np
import pytest
import torch

from semiseg.ingredients.adaptive_thresholds import AdaptiveThresholds, above, take_pool
from semiseg.ingredients.score_histogram import BINS

CLASSES = 4


def patches(seed, samples=2):
    generator = torch.Generator().manual_seed(seed)
    bias = torch.tensor([2.0, 1.0, 0.0, -1.0]).view(1, -1, 1, 1)
    return (3 * torch.randn(samples, CLASSES, 8, 9, generator=generator) + bias).softmax(1)


def slow(bank, capacity, majority):
    """The official computation on the dense bank, one class at a time."""
    dense = np.zeros((capacity, *bank[0].shape), np.float32)
    dense[: len(bank)] = np.stack(bank)
    predicted = np.bincount(dense.argmax(1).ravel(), minlength=CLASSES)
    g = predicted.argmax()
    rho = np.float32((dense[:, g] > majority).sum() + 1e-8) / np.float32(predicted[g] + 1e-8)
    return [np.sort(dense[:, c].ravel())[::-1][int(rho * np.float32(predicted[c]))] for c in range(CLASSES)]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("capacity", [4, 5])
def test_thresholds_follow_the_dense_bank(capacity, exact):
    thresholds, bank, expected = AdaptiveThresholds(CLASSES, capacity, 0.7, exact=exact), [], [0.0] * CLASSES
    for step in range(9):
        p = patches(step)
        if len(bank) >= capacity - 1:
            expected, bank = slow(bank, capacity, 0.7), []
        else:
            bank += list(p.numpy())
        atol = 1e-7 if exact else 1 / BINS
        np.testing.assert_allclose(thresholds.update(p, step), expected, rtol=0, atol=atol)
        assert thresholds.buffered(step, len(p)) == len(bank)
    assert max(expected) > 0


def test_binned_memory_does_not_grow():
    thresholds = AdaptiveThresholds(CLASSES, 100)
    sizes = {
        sum(b.numel() for b in thresholds.buffers()) for step in range(5) if len(thresholds.update(patches(0), step))
    }
    assert len(sizes) == 1


def test_exact_scores_are_part_of_the_state():
    first, second = (AdaptiveThresholds(CLASSES, 9, exact=True) for _ in range(2))
    first.update(patches(0), 0)
    second.load_state_dict(first.state_dict())
    for step in range(1, 5):
        torch.testing.assert_close(
            first.update(patches(step), step), second.update(patches(step), step), rtol=0, atol=0
        )
    assert first.value.any()


def test_nothing_changes_without_patches_or_an_empty_bank():
    thresholds = AdaptiveThresholds(CLASSES, 2)
    assert not thresholds.update(patches(0)[:0], 0).any()
    assert not thresholds.update(patches(0), 1).any()  # would compute, but nothing was stored


def test_thresholds_of_a_pool_keep_the_majoritys_share_of_every_class():
    pool = [patches(seed, 3) for seed in range(4)]
    counted = [torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(seed)) < 0.7 for seed in range(4)]
    thresholds = AdaptiveThresholds(CLASSES, 2, 0.8)
    take_pool([thresholds], [torch.log], zip(pool, counted, strict=True))
    confidence, labels = torch.cat(pool).max(1)
    counted = torch.cat(counted)
    kept = confidence > thresholds.value[labels]
    shares = [float(kept[(labels == c) & counted].float().mean()) for c in range(CLASSES)]
    major = int(torch.bincount(labels[counted]).argmax())
    assert float(thresholds.value[major]) == pytest.approx(0.8, abs=0.02)
    np.testing.assert_allclose(shares, shares[major], atol=0.05)


def test_channels_have_their_own_limit():
    p = torch.tensor([[[0.2, 0.6], [0.8, 0.4]]])
    assert above(p, torch.tensor([0.2, 0.4])).tolist() == [[[False, True], [True, False]]]
