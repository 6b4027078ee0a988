"""Agreement of several heads with their mean, against plain formulas."""

from __future__ import annotations

import pytest
import torch

from semiseg.ingredients.pyramid import rectified_consistency, spread


def heads(count=3, scale=2.0, batch=2):
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(batch, 4, 5, 6, generator=generator, dtype=torch.float64) for _ in range(count)]


def slow(logits):
    p = [z.softmax(1) for z in logits]
    q = sum(p) / len(p)
    terms = []
    for each in p:
        variance = (q * (q.log() - each.log())).sum(1, keepdim=True)
        certain = torch.exp(-variance)
        terms.append((((q - each) ** 2) * certain).mean() / (certain.mean() + 1e-8) + variance.mean())
    return torch.stack(terms)


@pytest.mark.parametrize("count", [2, 4])
def test_equal_to_plain_formulas(count):
    logits = [z.requires_grad_() for z in heads(count)]
    found, expected = rectified_consistency(spread(logits)), slow(logits)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found.sum(), logits), torch.autograd.grad(expected.sum(), logits), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_equal_heads_agree():
    (z,) = heads(1)
    assert rectified_consistency(spread([z, z.clone()])).abs().max() < 1e-12


def test_huge_logits_stay_finite():
    logits = [z.float().sign().mul(1e4).requires_grad_() for z in heads(2)]
    total = rectified_consistency(spread(logits)).sum()
    total.backward()
    assert total.isfinite()
    assert all(z.grad.isfinite().all() for z in logits)


def test_no_samples_give_zero_with_zero_gradient():
    logits = [z.requires_grad_() for z in heads(2, batch=0)]
    total = rectified_consistency(spread(logits)).sum()
    total.backward()
    assert total == 0
