from __future__ import annotations

import numpy as np
import pytest
import torch

import slow_losses
from semiseg.ingredients.losses import (
    FORMS,
    cross_entropy,
    cross_pseudo_loss,
    dice_ce,
    hard_dice,
    kept_cross_entropy,
    soft_dice,
)

SHAPES = [(2, 3, 4, 5), (1, 2, 3, 4, 2), (3, 5, 2, 3, 4)]
WEIGHTS = {"plain": None, "weighted": [0.0, 2.0, 0.5, 1.0, 3.0]}


def case(shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=dtype) * 2
    return logits, torch.randint(shape[1], (shape[0], *shape[2:]), generator=generator)


def weights(name, classes):
    return None if WEIGHTS[name] is None else torch.tensor(WEIGHTS[name][:classes], dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", WEIGHTS)
def test_equal_to_slow_losses(shape, name):
    logits, target = case(shape)
    weight = weights(name, shape[1])
    arrays = logits.numpy(), target.numpy()
    slow = None if weight is None else weight.numpy()
    assert cross_entropy(logits, target, weight).item() == pytest.approx(slow_losses.cross_entropy(*arrays, slow))
    for form in FORMS:
        expected = slow_losses.dice_ce(*arrays, form, slow)
        assert dice_ce(logits, target, form, weight).item() == pytest.approx(expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", WEIGHTS)
def test_gradients(form, name):
    for shape in ((2, 3, 2, 2), (1, 4, 2, 1, 2)):
        logits, target = case(shape)
        weight = weights(name, shape[1])
        logits.requires_grad_()
        torch.autograd.gradcheck(lambda z, t=target, w=weight: dice_ce(z, t, form, w), logits)
        torch.autograd.gradcheck(lambda z, t=target, w=weight: soft_dice(z, t, FORMS[form], w), logits)
        torch.autograd.gradcheck(lambda z, t=target, w=weight: cross_entropy(z, t, w), logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", FORMS)
def test_huge_logits_stay_finite(form, dtype):
    logits, target = case((2, 4, 6, 5))
    logits = (logits.sign() * 1e4).to(dtype).requires_grad_()
    total = dice_ce(logits, target, form) + cross_entropy(logits, target, torch.tensor([0.0, 1.0, 2.0, 4.0]))
    total.backward()
    assert total.dtype == torch.float32
    assert torch.isfinite(total)
    assert torch.isfinite(logits.grad).all()


def test_sums_are_full_precision_under_autocast():
    logits, target = case((2, 3, 16, 16, 16), dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = dice_ce(logits, target, "dhc", torch.tensor([0.1, 2.0, 3.0]))
    assert low == dice_ce(logits, target, "dhc", torch.tensor([0.1, 2.0, 3.0]))


def test_permuted_memory_layout_changes_nothing():
    logits, target = case((2, 3, 4, 5, 6))
    permuted = logits.clone(memory_format=torch.channels_last_3d).requires_grad_()
    logits.requires_grad_()
    for z in (logits, permuted):
        dice_ce(z, target).backward()
    torch.testing.assert_close(permuted.grad, logits.grad)


@pytest.mark.parametrize("loss", [dice_ce, soft_dice, cross_entropy])
def test_nothing_to_compare_is_zero(loss):
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = loss(logits[:0], torch.zeros(0, 4, 4, dtype=torch.long))
    value.backward()
    assert value == 0
    assert not logits.grad.any()


def test_no_weight_at_the_targets_is_zero_or_nan():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    background, weight = torch.zeros(2, 4, 4, dtype=torch.long), torch.tensor([0.0, 1.0, 2.0])
    assert cross_entropy(logits, background, weight) == 0
    assert cross_entropy(logits, background, weight, strict=True).isnan()
    assert dice_ce(logits, background, "dhc", weight).isfinite()
    assert dice_ce(logits, background, "dhc", weight, strict=True).isnan()


def test_cross_pseudo_loss_pairs_each_net_with_the_other():
    a, target_a = case((2, 3, 4, 5), seed=1)
    b, target_b = case((2, 3, 4, 5), seed=2)
    weight = torch.tensor([1.0, 2.0, 3.0])
    expected = slow_losses.cross_entropy(a.numpy(), target_b.numpy(), weight.numpy())
    expected += slow_losses.cross_entropy(b.numpy(), target_a.numpy())
    assert cross_pseudo_loss((a, b), (target_a, target_b), (weight, None)).item() == pytest.approx(expected)


def test_hard_dice_counts_classes():
    rng = np.random.default_rng(0)
    predicted, target = rng.integers(0, 3, (2, 2, 4, 4))
    dice = hard_dice(torch.from_numpy(predicted), torch.from_numpy(target), 4)
    for c in range(3):
        both, size = ((predicted == c) & (target == c)).sum(), (predicted == c).sum() + (target == c).sum()
        assert dice[c].item() == pytest.approx(2 * both / size)
    assert dice[3].item() == pytest.approx(0.5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("over", ["all", "kept"])
def test_kept_cross_entropy_is_the_sum_over_voxels(weighted, over):
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 5, generator=generator), torch.randint(3, (2, 4, 5), generator=generator)
    keep = torch.rand(2, 4, 5, generator=generator)
    weight = torch.tensor([0.5, 1.0, 3.0]) if weighted else None
    log_p, total = logits.log_softmax(1), 0.0
    for index in np.ndindex(2, 4, 5):
        b, *place = index
        c = int(target[index])
        total -= float(keep[index] * log_p[(b, c, *place)]) * (1.0 if weight is None else float(weight[c]))
    divisor = target.numel() if over == "all" else float(keep.sum())
    found = kept_cross_entropy(logits, target, keep, weight, over=over)
    torch.testing.assert_close(found, torch.tensor(total / divisor), rtol=1e-5, atol=0)


def test_kept_cross_entropy_of_nothing_is_zero_with_zero_gradient():
    logits = torch.randn(1, 3, 4).requires_grad_()
    nothing = torch.zeros(1, 4, dtype=torch.bool)
    for over in ("all", "kept"):
        loss = kept_cross_entropy(logits, torch.zeros(1, 4, dtype=torch.long), nothing, over=over)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss == 0
        assert not gradient.any()
    assert kept_cross_entropy(logits[:0], torch.zeros(0, 4, dtype=torch.long), nothing[:0]) == 0
