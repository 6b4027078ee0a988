import dataclasses
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError
from scipy import ndimage

from official_samples import turn_and_flip
from semiseg.batches.augment import AugmentConfig, Params, apply, draw, margin

STILL = {"flip": 0, "rot90": 0, "spatial": 0, "noise": 0, "blur": 0, "brightness": 0, "contrast": 0, "gamma": 0}
EVERYTHING = {**dict.fromkeys(STILL, 0.6), "lowres": 0.6}
PATCHES = [(13, 16), (8, 12, 8)]


def alone(image, params, patch, label=None):
    images, labels = apply(torch.as_tensor(image)[None], None if label is None else label[None], [params], patch)
    return images[0], None if labels is None else labels[0]


def smooth_image(rng, shape, sigma=2.0):
    return ndimage.gaussian_filter(rng.normal(size=shape), [0, *[sigma] * (len(shape) - 1)]).astype(np.float32) * 5


@pytest.mark.parametrize("patch", PATCHES)
def test_no_augmentation_crops_the_centre_and_leaves_the_input_alone(patch):
    shape = tuple(side + 4 for side in patch)
    images, labels = torch.randn(2, 3, *shape), torch.randint(0, 5, (1, *shape), dtype=torch.uint8)
    before = images.clone()
    centre = tuple(slice(2, 2 + side) for side in patch)
    rng = np.random.default_rng(0)
    assert margin(AugmentConfig.none(), patch) == patch
    params = [draw(AugmentConfig.none(), rng, patch) for _ in range(2)]
    out, truth = apply(images, labels, params, patch)
    assert torch.equal(out, images[(..., *centre)])
    assert torch.equal(truth, labels[(..., *centre)])
    assert truth.dtype == torch.uint8
    apply(images, labels, [Params(noise=0.1, gamma=1.2, blur=1.0, contrast=0.8, brightness=2.0)] * 2, patch)
    assert torch.equal(images, before)


def test_result_owns_its_memory_when_window_and_patch_agree():
    images, labels = torch.randn(1, 1, 6, 6), torch.zeros(1, 6, 6, dtype=torch.long)
    out, truth = apply(images, labels, [Params(flips=(False, False))], (6, 6))
    out.zero_()
    truth.fill_(1)
    assert images.abs().sum() > 0
    assert labels.sum() == 0


@pytest.mark.parametrize("patch", PATCHES)
def test_rotation_and_scaling_agree_with_scipy(patch):
    rng = np.random.default_rng(1)
    config = AugmentConfig(**{**STILL, "spatial": 1.0, "rotation": 20, "scaling": (0.85, 1.2)})
    source = tuple(2 * side + side % 2 for side in patch)  # so large that no corner leaves it
    image, label = smooth_image(rng, (2, *source)), rng.integers(0, 4, source)
    for _ in range(4):
        params = draw(config, rng, patch)
        matrix = np.array(params.matrix)
        offset = (np.array(source) - 1) / 2 - matrix @ ((np.array(patch) - 1) / 2)
        out, truth = alone(image, params, patch, torch.from_numpy(label))
        expected = [ndimage.affine_transform(c.astype(float), matrix, offset, patch, order=1) for c in image]
        assert_allclose(out.numpy(), np.stack(expected), atol=1e-4)
        nearest = ndimage.affine_transform(label, matrix, offset, patch, order=0)
        assert np.mean(truth.numpy() == nearest) > 0.995  # ties between two voxels may fall either way


def test_angle_and_scale_mean_what_they_say():
    config = AugmentConfig(**{**STILL, "spatial": 1.0, "rotation": 30, "scaling": (2.0, 2.0)})
    params = draw(config, np.random.default_rng(3), (16, 16))
    matrix = np.array(params.matrix)
    assert_allclose(matrix @ matrix.T, np.eye(2) / 4, atol=1e-12)
    assert abs(math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))) <= 30
    square = torch.zeros(1, 32, 32)
    square[0, 14:18, 14:18] = 1
    still = Params(matrix=((0.5, 0.0), (0.0, 0.5)), flips=(False, False))
    assert abs(alone(square, still, (16, 16))[0].sum().item() - 64) < 1e-3


@pytest.mark.parametrize("patch", [(40, 40), (20, 28, 20)])
def test_image_and_label_move_together(patch):
    rng = np.random.default_rng(2)
    config = AugmentConfig(**{**STILL, "flip": 0.5, "rot90": 0.5, "spatial": 0.7, "rotation": 25})
    image = smooth_image(rng, (1, *margin(config, patch)), sigma=5.0)
    label = torch.from_numpy((image[0] > 0).astype(np.uint8))
    voxel = max(np.abs(np.diff(image, axis=axis)).max() for axis in range(1, image.ndim))
    for _ in range(10):
        out, truth = alone(image, draw(config, rng, patch), patch, label)
        # Linear and nearest reading lie at most half a voxel apart on each axis.
        sure = out[0].abs() > voxel * len(patch) / 2
        assert sure.float().mean() > 0.1
        assert torch.equal(truth[sure] > 0, out[0][sure] > 0)


@pytest.mark.parametrize("flips", [(True, False, False), (False, True, True), (True, True, True)])
def test_flips_are_exact(flips):
    image, label = torch.randn(2, 4, 5, 6), torch.randint(0, 9, (4, 5, 6))
    axes = [axis for axis in range(3) if flips[axis]]
    out, truth = alone(image, Params(flips=flips), (4, 5, 6), label)
    assert_array_equal(out.numpy(), np.flip(image.numpy(), [axis + 1 for axis in axes]))
    assert_array_equal(truth.numpy(), np.flip(label.numpy(), axes))


@pytest.mark.parametrize("turn", [(1, 0, 2), (2, 0, 2), (3, 0, 2)])
def test_quarter_turns_are_exact(turn):
    image, label = torch.randn(2, 5, 4, 5), torch.randint(0, 9, (5, 4, 5))
    quarters, a, b = turn
    out, truth = alone(image, Params(turn=turn), (5, 4, 5), label)
    assert_array_equal(out.numpy(), np.rot90(image.numpy(), quarters, (a + 1, b + 1)))
    assert_array_equal(truth.numpy(), np.rot90(label.numpy(), quarters, (a, b)))


def test_quarter_turns_only_between_equal_sides():
    rng = np.random.default_rng(0)
    config = AugmentConfig(**{**STILL, "rot90": 1.0})
    assert {draw(config, rng, (8, 9, 8)).turn[1:] for _ in range(50)} == {(0, 2)}
    assert {draw(config, rng, (8, 9, 10)).turn[0] for _ in range(50)} == {0}
    assert {draw(config, rng, (8, 8, 8)).turn[1:] for _ in range(50)} == {(0, 1), (0, 2), (1, 2)}


def test_flip_axes_and_slices_are_respected():
    rng = np.random.default_rng(0)
    config = AugmentConfig(flip=1.0, flip_axes=(0, 2), spatial=1.0, in_plane=True)
    for _ in range(10):
        params = draw(config, rng, (16, 16, 6))
        matrix = np.array(params.matrix)
        assert params.flips == (True, False, True)
        assert_allclose(matrix[2], [0, 0, 1])
        assert_allclose(matrix[:, 2], [0, 0, 1])
    assert margin(config, (16, 16, 6))[2] == 6


@pytest.mark.parametrize("sigma", [0.5, 0.8, 1.7])
def test_blur_agrees_with_scipy(sigma):
    image = np.random.default_rng(0).normal(size=(2, 12, 9, 10)).astype(np.float32)
    out, _ = alone(image, Params(blur=sigma), (12, 9, 10))
    radius = math.ceil(3 * sigma)
    expected = [ndimage.gaussian_filter(c.astype(float), sigma, mode="nearest", radius=radius) for c in image]
    assert_allclose(out.numpy(), np.stack(expected), atol=1e-5)


def test_blur_of_a_sample_ends_at_its_own_radius_beside_a_wider_one():
    images = torch.zeros(2, 1, 15, 15)
    images[:, :, 7, 7] = 1
    out, _ = apply(images, None, [Params(flips=(False, False), blur=sigma) for sigma in (0.5, 2.0)], (15, 15))
    assert torch.equal(out[0, 0, 7].nonzero().ravel(), torch.arange(5, 10))


def test_grey_values_agree_with_plain_formulas():
    image = np.random.default_rng(0).normal(size=(2, 9, 8)).astype(np.float32)
    flips = (False, False)

    def changed(**numbers):
        return alone(image, Params(flips=flips, **numbers), (9, 8))[0].numpy()

    assert_allclose(changed(brightness=1.3), image * 1.3, rtol=1e-6)
    for factor in (0.7, 1.4):
        expected = [np.clip((c - c.mean()) * factor + c.mean(), c.min(), c.max()) for c in image]
        assert_allclose(changed(contrast=factor), np.stack(expected), atol=1e-5)
    for inverted in (False, True):
        expected = []
        for channel in image.astype(float):
            c = -channel if inverted else channel
            bent = ((c - c.min()) / np.ptp(c)) ** 1.4
            bent = (bent - bent.mean()) / bent.std() * c.std() + c.mean()
            expected.append(-bent if inverted else bent)
        assert_allclose(changed(gamma=1.4, inverted=inverted), np.stack(expected), atol=1e-4)


def test_gamma_of_a_constant_patch_is_finite():
    out, _ = alone(torch.full((1, 6, 6), 2.5), Params(flips=(False, False), gamma=1.4), (6, 6))
    assert_allclose(out.numpy(), 2.5, atol=1e-5)


def test_noise_has_its_deviation_and_follows_its_seed():
    image = torch.zeros(1, 30, 30, 30)
    first, again, other = (alone(image, Params(noise=0.3, noise_seed=seed), (30, 30, 30))[0] for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert abs(first.std().item() - 0.3) < 0.01
    assert abs(first.mean().item()) < 0.01


@pytest.mark.parametrize("patch", PATCHES)
def test_a_sample_never_depends_on_its_neighbours(patch):
    rng = np.random.default_rng(5)
    config = AugmentConfig(**EVERYTHING)
    window = margin(config, patch)
    images, labels = torch.randn(7, 2, *window), torch.randint(0, 4, (4, *window))
    params = [draw(config, rng, patch) for _ in range(7)]
    assert any(p.matrix for p in params)
    assert not all(p.matrix for p in params)
    out, truth = apply(images, labels, params, patch)
    for row, one in enumerate(params):
        image, label = alone(images[row], one, patch, labels[row] if row < 4 else None)
        assert_allclose(out[row].numpy(), image.numpy(), rtol=0, atol=1e-6)
        if row < 4:
            assert torch.equal(truth[row], label)
    again, _ = apply(images, None, params, patch)
    assert torch.equal(again, out)


def test_draws_are_reproducible_and_independent_of_each_other():
    full, quiet = AugmentConfig(**EVERYTHING), AugmentConfig(**{**EVERYTHING, "gamma": 0, "spatial": 0})
    first = [draw(full, np.random.default_rng(9), (8, 8, 8)) for _ in range(2)]
    assert first[0] == first[1]
    streams = np.random.default_rng(1), np.random.default_rng(1)
    for _ in range(10):
        a, b = draw(full, streams[0], (8, 8, 8)), draw(quiet, streams[1], (8, 8, 8))
        assert (a.flips, a.turn, a.noise, a.noise_seed, a.blur) == (b.flips, b.turn, b.noise, b.noise_seed, b.blur)
        assert (a.brightness, a.contrast) == (b.brightness, b.contrast)


def test_probabilities_and_ranges_hold():
    rng = np.random.default_rng(0)
    config = AugmentConfig(noise=0.3, noise_deviation=(0.05, 0.1), gamma=0.7, flip=0.25)
    drawn = [draw(config, rng, (8, 8)) for _ in range(2000)]
    noisy = [p.noise for p in drawn if p.noise]
    assert abs(len(noisy) / 2000 - 0.3) < 0.04
    assert 0.05 <= min(noisy) < max(noisy) <= 0.1
    assert abs(np.mean([p.gamma != 1 for p in drawn]) - 0.7) < 0.04
    assert_allclose(np.mean([p.flips for p in drawn], axis=0), 0.25, atol=0.04)


@pytest.mark.parametrize("patch", [(40, 56, 40), (96, 96), (128, 128, 16), (7, 9, 8)])
def test_margin_holds_the_transforms_up_to_its_bound(patch):
    mild = AugmentConfig(spatial=1, rotation=4, scaling=(0.95, 1.1), in_plane=True)
    window, rng = np.array(margin(mild, patch)), np.random.default_rng(0)
    assert all((window - patch) % 2 == 0)
    for _ in range(200):
        reach = np.abs(np.array(draw(mild, rng, patch).matrix)) @ np.array(patch)
        assert all(reach <= window + 1e-6)
    strong = np.array(margin(AugmentConfig(spatial=1, rotation=180, scaling=(0.5, 1)), patch))
    assert all(strong <= np.ceil(np.array(patch) * 1.3) + 1)


def test_stored_integer_images_come_out_as_float():
    image = torch.arange(36, dtype=torch.int16).view(1, 6, 6)
    out, _ = alone(image, Params(matrix=((0.5, 0.0), (0.0, 0.5)), flips=(False, False)), (4, 4))
    assert out.dtype == torch.float32


def test_sizes_that_do_not_fit_are_refused():
    images = torch.zeros(2, 1, 8, 8)
    with pytest.raises(ValueError, match="at least"):
        apply(images, None, [Params(), Params()], (9, 8))
    with pytest.raises(ValueError, match="per sample"):
        apply(images, None, [Params()], (8, 8))
    with pytest.raises(ValueError, match="belong"):
        apply(images, torch.zeros(1, 7, 8), [Params(), Params()], (8, 8))


@pytest.mark.parametrize(
    "wrong", [{"flip": 1.5}, {"scaling": (1.2, 0.8)}, {"rotation": -1}, {"flip_axes": (3,)}, {"shear": 1}]
)
def test_settings_out_of_bounds_are_refused(wrong):
    with pytest.raises(ValidationError):
        AugmentConfig(**wrong)


ROTFLIP = {**STILL, "rotflip": 1}


@pytest.mark.parametrize("patch", [(8, 8), (8, 8, 6)])
def test_turns_and_flips_of_the_papers(patch):
    """Each patch is one of the four mirror images that quarter turns and one flip make, each as often."""
    rng = np.random.default_rng(3)
    image = rng.normal(size=(1, *patch)).astype(np.float32)
    plane = [np.flip(np.rot90(image, quarters, (1, 2)), 1).tobytes() for quarters in range(4)]
    assert len(set(plane)) == 4
    counts = dict.fromkeys(plane, 0)
    for _ in range(600):
        found, _ = alone(image, draw(AugmentConfig(**ROTFLIP), rng, patch), patch)
        counts[found.numpy().tobytes()] += 1
    assert min(counts.values()) > 100


def test_turns_and_flips_equal_the_official_function():
    rng = np.random.default_rng(4)
    image = rng.normal(size=(1, 7, 7, 5)).astype(np.float32)
    for _ in range(20):
        params = draw(AugmentConfig(**ROTFLIP), rng, image.shape[1:])
        found, _ = alone(image, params, image.shape[1:])
        axis = params.flips.index(True)
        assert sum(params.flips) == 1
        assert_array_equal(found[0], turn_and_flip(image[0], params.turn[0], axis))


def test_patches_with_unequal_sides_keep_their_shape():
    rng = np.random.default_rng(5)
    assert {draw(AugmentConfig(**ROTFLIP), rng, (8, 12, 8)).turn[0] for _ in range(50)} == {0, 2}


def test_one_change_of_two():
    """Half of the slices are turned and flipped, half of the others rotated: the shares of the 2D cardiac loaders."""
    config = AugmentConfig(**{**STILL, "rotflip": 0.5, "spatial": 0.5, "one_of": True, "rotation": 20})
    rng = np.random.default_rng(6)
    drawn = [draw(config, rng, (8, 8)) for _ in range(2000)]
    turned = [any(params.flips) for params in drawn]
    rotated = [params.matrix is not None for params in drawn]
    assert not any(a and b for a, b in zip(turned, rotated, strict=True))
    assert abs(np.mean(turned) - 0.5) < 0.04
    assert abs(np.mean(rotated) - 0.25) < 0.04


def test_nearest_voxels_are_taken_where_asked_for():
    rng = np.random.default_rng(8)
    config = AugmentConfig(**{**STILL, "spatial": 1.0, "rotation": 30, "nearest": True})
    image = rng.choice([0.0, 3.0, 7.0], size=(1, 15, 13)).astype(np.float32)
    params = [draw(config, np.random.default_rng(seed), (15, 13)) for seed in range(3)]
    found, _ = apply(torch.as_tensor(image)[None].repeat(3, 1, 1, 1), None, params, (15, 13))
    assert set(np.unique(found)) <= {0.0, 3.0, 7.0}
    linear = dataclasses.replace(params[1], nearest=False)
    mixed, _ = apply(torch.as_tensor(image)[None].repeat(3, 1, 1, 1), None, [params[0], linear, params[2]], (15, 13))
    assert torch.equal(mixed[::2], found[::2])
    assert len(np.unique(mixed[1])) > 20
    assert torch.equal(mixed[1], alone(image, linear, (15, 13))[0])


def test_the_papers_changes_leave_other_random_numbers_as_they_were():
    config = AugmentConfig()
    first = draw(config, np.random.default_rng(7), (8, 8, 8))
    assert first == draw(config.model_copy(update={"one_of": True}), np.random.default_rng(7), (8, 8, 8))
