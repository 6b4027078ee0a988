from __future__ import annotations

import numpy as np
import pytest
import torch

from semiseg.ingredients.features import channel_kl, decoder_consistency, stage_weights
from slow_losses import probabilities


def slow_kl(a, b):
    p, q = probabilities(a), probabilities(b)
    return np.mean([np.sum(x * (np.log(x) - np.log(y))) for x, y in zip(p, q, strict=True)])


def pair(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in "ab"]


@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (1, 6, 2, 3, 2)])
def test_equal_to_slow_divergence(shape, scale):
    a, b = (scale * f for f in pair(*shape))
    assert channel_kl(a, b).item() == pytest.approx(slow_kl(a.numpy(), b.numpy()))
    assert channel_kl(a, a.clone()).item() == 0


def test_gradients():
    a, b = (f.requires_grad_() for f in pair(2, 3, 2, 2))
    torch.autograd.gradcheck(channel_kl, (a, b))


@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (1, 16, 2, 3, 2)])
def test_layouts_give_the_same(shape):
    a, b = pair(*shape)
    last = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    found = []
    for layout in (torch.contiguous_format, last):
        x, y = (f.clone(memory_format=layout).requires_grad_() for f in (a, b))
        value = channel_kl(x, y)
        value.backward()
        assert x.grad.is_contiguous(memory_format=layout)
        found.append((value, x.grad, y.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_huge_features_stay_finite(dtype):
    a, b = ((f.sign() * 1e4).to(dtype).requires_grad_() for f in pair(2, 5, 4, 4))
    value = channel_kl(a, b)
    value.backward()
    assert value.isfinite()
    assert a.grad.isfinite().all()
    assert b.grad.isfinite().all()


def test_weighted_sum_of_stages():
    a, b = pair(2, 4, 3, 3), pair(2, 4, 3, 3, seed=1)
    coarse, fine = (channel_kl(x, y) for x, y in zip(a, b, strict=True))
    torch.testing.assert_close(decoder_consistency(a, b), 0.4 * coarse + 0.8 * fine)


def test_stage_weights_of_the_papers_four():
    assert stage_weights(4) == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_no_sample_is_zero():
    empty = torch.zeros(0, 3, 2, 2, requires_grad=True)
    assert channel_kl(empty, empty) == 0


def test_decoder_stages_have_rising_weights_and_both_networks_gradients():
    a, b = ([torch.randn(1, 4, 3, requires_grad=True) for _ in range(4)] for _ in range(2))
    found = decoder_consistency(a, b)
    wanted = sum(w * channel_kl(x, y) for w, x, y in zip([0.2, 0.4, 0.6, 0.8], a, b, strict=True))
    torch.testing.assert_close(found, wanted)
    found.backward()
    assert all(f.grad is not None for f in (*a, *b))
