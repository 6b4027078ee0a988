"""Losses per sample against a slow reference."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from semiseg.ingredients.losses import dice_ce
from semiseg.ingredients.pseudo_labels import hard_labels, threshold_labels
from semiseg.ingredients.sample_losses import sample_dice_ce


def slow(logits, target):
    p, classes = logits.softmax(1), logits.shape[1]
    ratios = []
    for n in range(len(logits)):
        for c in range(classes):
            t = (target[n] == c).to(p.dtype)
            ratios.append((2 * (p[n, c] * t).sum() + 1e-5) / (p[n, c].sum() + t.sum() + 1e-5))
    return (F.cross_entropy(logits, target) + 1 - torch.stack(ratios).mean()) / 2


@pytest.mark.parametrize("shape", [(3, 4, 9, 7), (2, 2, 5, 6, 4)])
def test_value_and_gradient(shape):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
    target = torch.randint(shape[1] - 1, (shape[0], *shape[2:]), generator=generator)  # the last class is absent
    loss, reference = sample_dice_ce(logits, target), slow(logits, target)
    torch.testing.assert_close(loss, reference)
    torch.testing.assert_close(torch.autograd.grad(loss, logits), torch.autograd.grad(reference, logits))


def test_other_forms_and_nothing():
    logits, target = torch.randn(2, 3, 4, 4, requires_grad=True), torch.ones(2, 4, 4, dtype=torch.long)
    assert sample_dice_ce(logits, target, "la") == dice_ce(logits, target, "la")
    empty = sample_dice_ce(logits[:0], target[:0])
    empty.backward()
    assert empty == 0
    assert not logits.grad.any()


def test_a_tie_of_two_classes_is_foreground_and_of_more_the_first():
    tied = torch.zeros(1, 2, 3, 3)
    assert threshold_labels(tied).all()
    assert not hard_labels(tied).any()
    assert not threshold_labels(torch.zeros(1, 3, 3, 3)).any()
    logits = torch.randn(2, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(threshold_labels(logits), hard_labels(logits))
