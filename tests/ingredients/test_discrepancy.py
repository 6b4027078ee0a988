"""The cosine that two subnets shall not share."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from semiseg.ingredients.discrepancy import cosine_similarity_loss, mutual_similarity_loss


def features(seed, *shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_value_and_gradient_against_a_loop():
    a, b = features(0, 2, 5, 3, 4).requires_grad_(), features(1, 2, 5, 3, 4).requires_grad_()
    cosines = [
        F.cosine_similarity(a[n, :, i, j], b[n, :, i, j], dim=0) for n in range(2) for i in range(3) for j in range(4)
    ]
    slow = 1 + torch.stack(cosines).mean()
    torch.testing.assert_close(cosine_similarity_loss(a, b), slow)
    # Both directions have the gradient of the one term in which nothing is detached, and twice its value.
    expected = torch.autograd.grad(slow, (a, b))
    mutual = mutual_similarity_loss(a, b)
    torch.testing.assert_close(mutual, 2 * slow)
    torch.testing.assert_close(torch.autograd.grad(mutual, (a, b)), expected)


def test_range():
    a = features(0, 1, 4, 3, 3)
    for b, value in ((a, 4.0), (3 * a, 4.0), (-a, 0.0)):
        torch.testing.assert_close(mutual_similarity_loss(a, b), torch.tensor(value, dtype=torch.float64))


def test_vectors_without_length_have_no_gradient_in_any_precision():
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        a = features(0, 1, 4, 3, 3).to(dtype)
        a[:, :, 1] = 0
        a.requires_grad_()
        loss = mutual_similarity_loss(a, features(1, 1, 4, 3, 3).to(dtype))
        loss.backward()
        assert loss.dtype in (torch.float32, torch.float64)
        assert torch.isfinite(a.grad).all()
        assert not a.grad[:, :, 1].any()
        assert a.grad[:, :, 0].any()


def test_nothing_to_compare_is_zero_with_gradient():
    a = torch.zeros(0, 4, 3, 3, requires_grad=True)
    loss = mutual_similarity_loss(a, a)
    loss.backward()
    assert loss == 0
