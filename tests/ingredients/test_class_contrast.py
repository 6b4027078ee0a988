"""Memories of class features and the contrast with them, against loops over pairs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from semiseg.ingredients.class_contrast import Selectors, contrast_loss, remember, rows_of
from semiseg.ingredients.class_memory import ClassMemory

CLASSES, SIZE, WIDTH = 4, 5, 6


def vectors(rows, seed=0):
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def selectors():
    torch.manual_seed(3)
    return Selectors(CLASSES, WIDTH)


def score(selectors, label, rows):
    """One selector as plain layers."""
    k, own = label - 1, selectors
    hidden = rows @ own.weight[k].T + own.bias[k]
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + 1e-5).sqrt()
    hidden = F.leaky_relu(hidden * own.norm_weight[k] + own.norm_bias[k], 0.2)
    return (hidden @ own.last_weight[k].T + own.last_bias[k]).sigmoid().squeeze(1)


def test_scores(selectors):
    for label in range(1, CLASSES):
        torch.testing.assert_close(selectors(label, vectors(9)), score(selectors, label, vectors(9)))


def test_rows_follow_flattened_labels():
    features = torch.randn(2, 3, 4, 5)
    rows = rows_of(features)
    assert rows.shape == (40, 3)
    assert torch.equal(rows[27], features[1, :, 1, 2])


@pytest.mark.parametrize("selected", ["lowest", "highest"])
def test_what_is_remembered(selectors, selected):
    memory = ClassMemory(CLASSES, SIZE, WIDTH)
    labels = torch.tensor([0] * 4 + [1] * 9 + [3] * 2)[torch.randperm(15)]
    remember(memory, selectors, vectors(15), labels, selected)
    assert memory.kept.tolist() == [0, 5, 0, 2]
    ones = vectors(15)[labels == 1]
    order = score(selectors, 1, ones).argsort(descending=selected == "highest")
    assert torch.equal(memory.of(1), ones[order[:SIZE]])
    assert torch.equal(memory.of(3), vectors(15)[labels == 3])
    # Replaced, not appended; classes that do not come keep theirs.
    remember(memory, selectors, vectors(2, 1), torch.tensor([1, 2]), selected)
    assert memory.kept.tolist() == [0, 1, 1, 2]
    assert torch.equal(memory.of(1), vectors(2, 1)[:1])
    assert not memory.vectors[1, 1:].any()


def test_contrast_is_the_mean_over_all_pairs(selectors):
    memory = ClassMemory(CLASSES, SIZE, WIDTH)
    for label, rows in ((0, 3), (1, 4), (2, 1), (3, 5)):
        memory.replace(label, vectors(rows, label))
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3, 1])
    found = vectors(9, 7).requires_grad_()
    expected = 0.0
    for label in (1,):  # background, one vector in memory (2), one feature (3): left out
        q = found[labels == label]
        s = score(selectors, label, q.detach())
        for i in range(len(q)):
            for m in memory.of(label):
                weight = len(q) * s[i] / s.sum()
                expected = expected + weight * (1 - F.cosine_similarity(q[i], m, 0)) / (len(q) * len(memory.of(label)))
    loss = contrast_loss(memory, selectors, found, labels)
    torch.testing.assert_close(loss, expected / CLASSES)
    for parameter in (found, selectors.weight):
        ours, theirs = (
            torch.autograd.grad(each, parameter, retain_graph=True)[0] for each in (loss, expected / CLASSES)
        )
        torch.testing.assert_close(ours, theirs)


def test_nothing_to_compare_is_zero_with_zero_gradient(selectors):
    found = vectors(4).requires_grad_()
    loss = contrast_loss(ClassMemory(CLASSES, SIZE, WIDTH), selectors, found, torch.tensor([0, 1, 1, 2]))
    loss.backward()
    assert loss == 0
    assert not found.grad.any()
    assert all(not p.grad.any() for p in selectors.parameters())
