from __future__ import annotations

import numpy as np
import pytest
import torch

from semiseg.ingredients.levels import one_hot, resize_linear, resize_nearest
from semiseg.ingredients.masked import dice_ce_parts, masked_parts, masked_probability_mse, over_levels
from slow_losses import probabilities

CLASSES = 3


def problem(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, CLASSES, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    target = torch.rand(2, CLASSES, 4, 5, generator=generator, dtype=torch.float64).softmax(1)
    return logits, target, torch.rand(2, 4, 5, generator=generator) > 0.4


@pytest.mark.parametrize("form", ["ce", "kl"])
def test_soft_targets_on_chosen_voxels(form):
    logits, target, keep = problem()
    p = probabilities(logits.detach().numpy())[keep.numpy().ravel()]
    y = np.moveaxis(target.numpy(), 1, -1)[keep.numpy()]
    ce = -(y * np.log(p)).sum(1).mean() if form == "ce" else (y * (np.log(y) - np.log(p))).mean()
    dice = np.mean([1 - 2 * (p[:, c] * y[:, c]).sum() / (p[:, c].sum() + y[:, c].sum()) for c in range(1, CLASSES)])
    parts = masked_parts(logits, target, keep, form)
    assert [part.item() for part in parts] == pytest.approx([ce, dice, keep.sum().item()])
    torch.autograd.gradcheck(lambda z: over_levels([masked_parts(z, target, keep, form)]), logits)


def test_all_voxels_of_hard_labels():
    logits, target, keep = problem()
    labels = target.argmax(1)
    everywhere = masked_parts(logits, one_hot(labels, CLASSES), torch.ones_like(keep))
    for found, wanted in zip(dice_ce_parts(logits, labels), everywhere, strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_level_without_voxels_leaves_the_term_out():
    logits, target, keep = problem()
    value = over_levels([masked_parts(logits, target, keep), masked_parts(logits, target, torch.zeros_like(keep))])
    value.backward()
    assert value == 0
    assert not logits.grad.any()


def test_squared_difference_on_chosen_voxels():
    logits, target, keep = problem()
    p = probabilities(logits.detach().numpy())[keep.numpy().ravel()]
    y = np.moveaxis(target.numpy(), 1, -1)[keep.numpy()]
    assert masked_probability_mse(logits, target, keep).item() == pytest.approx(np.mean((p - y) ** 2))
    assert masked_probability_mse(logits, target, torch.zeros_like(keep)) == 0


def test_huge_logits_stay_finite():
    logits, target, keep = problem()
    huge = (logits.detach().sign() * 1e4).to(torch.bfloat16).requires_grad_()
    hard = one_hot(target.argmax(1), CLASSES)
    for form in ("ce", "kl"):
        over_levels([masked_parts(huge, hard, keep, form)]).backward()
    assert torch.isfinite(huge.grad).all()


def test_resizing():
    maps = torch.arange(2 * 8 * 4).view(2, 8, 4)
    wanted = torch.nn.functional.interpolate(maps.unsqueeze(1).float(), size=(2, 2)).squeeze(1)
    assert torch.equal(resize_nearest(maps, (2, 2)).float(), wanted)
    assert resize_nearest(torch.ones(2, 1, 1), (3, 4)).shape == (2, 1, 1)
    soft = resize_linear(one_hot(maps % 3, 3), (4, 2))
    torch.testing.assert_close(soft.sum(1), torch.ones(2, 4, 2))
