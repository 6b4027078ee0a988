from __future__ import annotations

import numpy as np
import pytest
import torch

from semiseg.ingredients.prototypes import Prototypes, matching_score, prototype_loss, prototypes

CLASSES = 3


def draw(seed, images=2, shape=(4, 5), dtype=torch.float64, channels=6):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(images, channels, *shape, generator=generator, dtype=dtype)
    masks = torch.rand(images, CLASSES, *shape, generator=generator, dtype=dtype)
    return features, masks


def slow(features, masks):
    """Means with NaN for absent classes, voxel by voxel."""
    found = np.full((len(features), CLASSES, features.shape[1]), np.nan)
    for n, c in np.ndindex(found.shape[:2]):
        weight = masks[n, c].numpy()
        if weight.sum() > 0:
            found[n, c] = [(f.numpy() * weight).sum() / weight.sum() for f in features[n].detach()]
    return found


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 2)])
def test_means_of_soft_and_absent_classes(shape):
    features, masks = draw(0, shape=shape)
    masks[1, 2] = 0
    found = prototypes(features, masks)
    wanted = slow(features, masks)
    assert found.present.tolist() == [[True] * 3, [True, True, False]]
    np.testing.assert_allclose(found.means.numpy(), np.nan_to_num(wanted))


def test_means_are_not_taken_in_half_precision():
    features, masks = draw(1, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = prototypes(features, masks)
    assert found.means.dtype == torch.float32
    torch.testing.assert_close(found.means, prototypes(features, masks).means)


def mean_of_present(values, axis):
    return np.ma.masked_invalid(values).mean(axis).filled(np.nan)


def slow_loss(a, b, pairing, absent, reduction):
    """The loss from prototypes with NaN for absent classes, per level."""
    levels = []
    for x, y in zip(a, b, strict=True):
        if pairing == "batch":
            mean = np.mean if absent == "level" else mean_of_present
            gaps = ((mean(x, 0) - mean(y, 0)) ** 2)[None]
        else:
            gaps = np.stack([(x[n % len(x)] - each) ** 2 for n, each in enumerate(y)])
        per_class = gaps.mean(2) if reduction == "mean" else gaps.sum(2)
        if absent == "level":
            per_class = per_class[~np.isnan(per_class).any(1)]
        if np.isfinite(per_class).any():
            levels.append(np.nanmean(per_class))
    if not levels:
        return 0.0
    return np.mean(levels) if reduction == "mean" else np.sum(levels)


@pytest.mark.parametrize("pairing", ["batch", "image"])
@pytest.mark.parametrize("absent", ["level", "class"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("missing", ["none", "one image", "everywhere"])
def test_loss_and_gradient(pairing, absent, reduction, missing):
    a, b = (
        [draw(seed + s, images, shape, channels=2) for s, shape in enumerate([(2, 2), (2, 3)])]
        for seed, images in ((0, 2), (5, 3))
    )
    if missing == "one image":
        b[0][1][1, 2] = 0
    if missing == "everywhere":
        for _, masks in b:
            masks[:, 2] = 0
    inputs = [f.requires_grad_() for side in (a, b) for f, _ in side]

    def loss(*features):
        found = [
            [prototypes(f, masks) for f, (_, masks) in zip(part, side, strict=True)]
            for part, side in ((features[:2], a), (features[2:], b))
        ]
        return prototype_loss(*found, pairing, absent, reduction)

    wanted = slow_loss(*([slow(f, m) for f, m in side] for side in (a, b)), pairing, absent, reduction)
    assert loss(*inputs).item() == pytest.approx(wanted)
    torch.autograd.gradcheck(loss, inputs)


def test_matching_leaves_absent_classes_out():
    means = torch.zeros(2, 2, 4)
    means[1] = 3.0
    a = Prototypes(means, torch.tensor([[True, True], [True, False]]))
    b = Prototypes(means[:1], torch.tensor([[True, True]]))
    far = np.exp(-36.0)
    assert matching_score(a, b).item() == pytest.approx((1 + 1 + far) / 3)
