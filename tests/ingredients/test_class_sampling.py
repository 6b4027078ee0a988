from __future__ import annotations

import numpy as np
import torch

from semiseg.ingredients.class_sampling import ClassConfidence, sampled, sampling_rates


def test_rates_of_scores():
    rates = sampling_rates(torch.tensor([0.0, 0.5, 0.9]), 0.5)
    np.testing.assert_allclose(rates, [1.0, 0.5**0.5, 0.1**0.5], rtol=1e-6)
    assert torch.equal(sampling_rates(torch.zeros(3), 2.5), torch.ones(3))
    assert torch.equal(sampling_rates(torch.ones(3), 0.5), torch.zeros(3))


def test_voxels_are_kept_with_the_rate_of_their_class():
    torch.manual_seed(0)
    labels = torch.arange(3).repeat_interleave(4000).view(3, 40, 100)
    kept = sampled(labels, torch.tensor([1.0, 0.3, 0.0]))
    shares = [float(kept[labels == c].float().mean()) for c in range(3)]
    assert shares[1] > 0
    np.testing.assert_allclose(shares, [1.0, 0.3, 0.0], atol=0.03)


def slow(batches, window, momentum, start):
    value, started, sums, counts = start.double().numpy(), False, np.zeros(3), np.zeros(3)
    for step, (logits, labels) in enumerate(batches, 1):
        p = logits.softmax(1).numpy()
        for c in range(3):
            sums[c] += p[:, c][labels.numpy() == c].sum()
            counts[c] += (labels.numpy() == c).sum()
        if step % window == 0:
            new = sums / (counts + 1e-12)
            value, started = (momentum * value + (1 - momentum) * new if started else new), True
            sums, counts = np.zeros(3), np.zeros(3)
        yield value


def test_confidence_follows_the_slow_recursion():
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(2, 3, 5, 6, generator=generator), torch.randint(2 + t % 2, (2, 5, 6), generator=generator))
        for t in range(9)
    ]
    confidence = ClassConfidence(3, window=2, momentum=0.7)
    expected = slow(batches, 2, 0.7, confidence.value)
    for step, ((logits, labels), value) in enumerate(zip(batches, expected, strict=True)):
        np.testing.assert_allclose(confidence.update(logits, labels, step), value, rtol=1e-5)


def test_a_class_that_a_window_lacks_counts_as_zero():
    confidence = ClassConfidence(2, window=1, momentum=0.5)
    confidence.update(torch.zeros(1, 2, 4), torch.zeros(1, 4, dtype=torch.long), 0)
    np.testing.assert_allclose(confidence.value, [0.5, 0.0])
