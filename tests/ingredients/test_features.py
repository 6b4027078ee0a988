from __future__ import annotations

import numpy as np
import pytest
import torch

from semiseg.ingredients.features import (
    FeatureOptions,
    channel_kl,
    decoder_consistency,
    feature_consistency,
    stage_weights,
)
from slow_losses import probabilities


def slow_kl(a, b, temperature):
    p, q = probabilities(a / temperature), probabilities(b / temperature)
    return np.mean([np.sum(x * (np.log(x) - np.log(y))) for x, y in zip(p, q, strict=True)])


def pair(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in "ab"]


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (1, 6, 2, 3, 2)])
def test_equal_to_slow_divergence(shape, temperature):
    a, b = pair(*shape)
    assert channel_kl(a, b, temperature).item() == pytest.approx(slow_kl(a.numpy(), b.numpy(), temperature))
    assert channel_kl(a, a.clone()).item() == 0


def test_gradients():
    a, b = (f.requires_grad_() for f in pair(2, 3, 2, 2))
    torch.autograd.gradcheck(lambda x, y: channel_kl(x, y, 1.7), (a, b))


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


def test_weighted_sum_of_stages_and_directions():
    a, b = pair(2, 4, 3, 3), pair(2, 4, 3, 3, seed=1)
    forth = [channel_kl(x, y) for x, y in zip(a, b, strict=True)]
    back = [channel_kl(y, x) for x, y in zip(a, b, strict=True)]
    expected = {
        "a_to_b": 0.4 * forth[0] + 0.8 * forth[1],
        "b_to_a": 0.4 * back[0] + 0.8 * back[1],
        "symmetric": 0.2 * (forth[0] + back[0]) + 0.4 * (forth[1] + back[1]),
    }
    for direction, value in expected.items():
        torch.testing.assert_close(feature_consistency(a, b, stage_weights(2), direction), value)


def test_stage_weights_of_the_papers_four():
    assert stage_weights(4) == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_no_sample_is_zero():
    empty = torch.zeros(0, 3, 2, 2, requires_grad=True)
    assert channel_kl(empty, empty) == 0


@pytest.mark.parametrize(("detach", "trained"), [("none", (True, True)), ("a", (False, True)), ("b", (True, False))])
@pytest.mark.parametrize("upside_down", [False, True])
def test_decoder_stages_have_weights_and_gradients_as_asked(detach, trained, upside_down):
    a, b = ([torch.randn(1, 4, 3, requires_grad=True) for _ in range(4)] for _ in range(2))
    found = decoder_consistency(a, b, FeatureOptions(kl_detach=detach, kl_reversed=upside_down))
    weights = [0.8, 0.6, 0.4, 0.2] if upside_down else [0.2, 0.4, 0.6, 0.8]
    wanted = sum(w * channel_kl(x, y) for w, x, y in zip(weights, a, b, strict=True))
    torch.testing.assert_close(found, wanted)
    found.backward()
    assert (all(x.grad is not None for x in a), all(x.grad is not None for x in b)) == trained
