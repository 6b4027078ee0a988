"""Largest components of pseudo-labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from semiseg.ingredients import components
from semiseg.ingredients.components import keep_largest


def slow(labels: np.ndarray) -> np.ndarray:
    kept = np.zeros_like(labels)
    for n, sample in enumerate(labels):
        for label in range(1, labels.max() + 1):
            numbered, count = ndimage.label(sample == label, np.ones((3,) * sample.ndim))
            if count:
                # Numbers rise in scan order, and argmax takes the first of equals.
                kept[n][numbered == 1 + np.bincount(numbered.ravel())[1:].argmax()] = label
    return kept


@pytest.mark.parametrize("shape", [(5, 14, 11), (3, 7, 8, 6)])
@pytest.mark.parametrize("classes", [2, 5, 300])
def test_against_a_slow_reference(shape, classes):
    generator = torch.Generator().manual_seed(classes)
    labels = torch.randint(classes, shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.4)
    before = labels.clone()
    found = keep_largest(labels)()
    np.testing.assert_array_equal(found.numpy(), slow(labels.numpy()))
    assert found.dtype == torch.int64
    assert torch.equal(labels, before)


def test_nothing_to_filter():
    assert keep_largest(torch.zeros(0, 4, 4, dtype=torch.long))().shape == (0, 4, 4)
    assert not keep_largest(torch.zeros(2, 4, 4, dtype=torch.long))().any()


def test_failures_in_a_thread_are_raised_where_the_result_is_taken(monkeypatch):
    def broken(sample, neighbours, classes):
        raise MemoryError("no room")

    monkeypatch.setattr(components, "largest_component", broken)
    wait = keep_largest(torch.ones(2, 4, 4, dtype=torch.long))
    with pytest.raises(MemoryError, match="no room"):
        wait()
