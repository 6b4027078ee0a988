from __future__ import annotations

import pytest
import torch

from semiseg.ingredients.score_histogram import BINS, channel_histogram, label_histogram, no_scores, score_at


@pytest.fixture
def scores():
    return torch.randn(2, 3, 9, 10, generator=torch.Generator().manual_seed(0)).mul(3).softmax(1)


def test_ranks_are_those_of_sorted_scores(scores):
    ordered = scores.movedim(1, 0).flatten(1).sort(1, descending=True).values
    histogram = channel_histogram(scores)
    assert histogram.sum(1).tolist() == [180] * 3
    for rank in (0, 1, 50, 178, 179):
        found = score_at(histogram, torch.full((3,), rank))
        torch.testing.assert_close(found, ordered[:, rank], rtol=0, atol=1 / BINS)


def test_the_first_rank_is_above_all_scores_and_late_ones_are_the_last(scores):
    histogram, rows = channel_histogram(scores), scores.movedim(1, 0).flatten(1)
    assert (score_at(histogram, torch.zeros(3, dtype=torch.long)) >= rows.max(1).values).all()
    last = score_at(histogram, torch.full((3,), 10**6))
    torch.testing.assert_close(last, rows.min(1).values, rtol=0, atol=1 / BINS)


def test_scores_by_label(scores):
    confidence, labels = scores.max(1)
    counted = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    histogram = label_histogram(confidence, labels, 4, counted)
    for c in range(3):
        own = confidence[(labels == c) & counted].sort(descending=True).values
        assert histogram[c].sum() == len(own)
        rank = torch.full((4,), len(own) // 2)
        torch.testing.assert_close(score_at(histogram, rank)[c], own[len(own) // 2], rtol=0, atol=1 / BINS)
    assert histogram[3].sum() == 0
    assert label_histogram(confidence, labels, 3).sum() == labels.numel()


def test_extreme_scores_and_empty_rows():
    histogram = channel_histogram(torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]).movedim(0, 0))
    assert score_at(histogram, torch.tensor([0, 0])).tolist() == [1.0, 1 / BINS]
    assert score_at(no_scores(2), torch.tensor([0, 5])).tolist() == [1.0, 1.0]
