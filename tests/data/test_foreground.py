import itertools

import numpy as np
import pytest

from semiseg.data.foreground import foreground_box, foreground_threshold


def box_of(image):
    image = image if image.ndim == 4 else image[None]
    return foreground_box(image, [foreground_threshold(channel) for channel in image])


def head(shape=(60, 50, 40), corner=(20, 15, 10), side=20, value=100.0):
    volume = np.zeros(shape, np.float32)
    volume[tuple(slice(c, c + side) for c in corner)] = value
    return volume


EXPECTED = ((17, 12, 7), (43, 38, 33))


def test_zero_background_is_cut_with_margin():
    assert box_of(head()) == EXPECTED


def test_noise_in_air_does_not_count():
    noise = np.random.default_rng(0).rayleigh(4.0, (60, 50, 40)).astype(np.float32)
    assert box_of(head() + noise) == EXPECTED


def test_ct_air_is_background():
    rng = np.random.default_rng(0)
    volume = head(value=1040.0) - 1000 + rng.normal(0, 20, (60, 50, 40))
    volume[25:30, 20:25, 15:20] = -850  # lung within the body
    volume[0, 0, 0] = 3000  # a single hot voxel
    assert box_of(np.maximum(volume, -1024).astype(np.int16)) == EXPECTED


def test_normalised_images_are_cut_alike():
    volume = head() + np.random.default_rng(0).rayleigh(4.0, (60, 50, 40)).astype(np.float32)
    assert box_of((volume - volume.mean()) / volume.std()) == EXPECTED


@pytest.mark.parametrize("value", [0, -1024, 7])
def test_constant_image_is_kept_whole(value):
    assert foreground_threshold(np.full((5, 6, 7), value, np.int16)) == -np.inf
    assert box_of(np.full((5, 6, 7), value, np.int16)) == ((0, 0, 0), (5, 6, 7))


def test_small_object_in_a_large_empty_volume():
    volume = np.zeros((100, 100, 100), np.float32)
    volume[50:55, 50:55, 50:55] = 1
    assert box_of(volume) == ((47, 47, 47), (58, 58, 58))


def test_any_channel_counts():
    first, second = head(corner=(5, 15, 10)), head(corner=(35, 15, 10))
    start, stop = box_of(np.stack([first, second]))
    assert (start[0], stop[0]) == (2, 58)


def test_all_foreground_and_single_slices_are_kept():
    rng = np.random.default_rng(0)
    assert box_of(rng.normal(80, 10, (12, 14, 10))) == ((0, 0, 0), (12, 14, 10))
    assert box_of(rng.normal(80, 10, (12, 14, 1))) == ((0, 0, 0), (12, 14, 1))


@pytest.mark.parametrize("seed", range(20))
def test_the_box_is_that_of_counted_planes_however_the_image_lies_in_memory(seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(rng.integers(1, 4), *rng.integers(1, 30, 3)))
    image[:, rng.random(image.shape[1:]) < 0.97] = 0
    thresholds = [foreground_threshold(channel) for channel in image]
    seen = (image > np.reshape(thresholds, (-1, 1, 1, 1))).any(0)
    spans = []
    for axis in range(3):
        plane = seen.sum(tuple({0, 1, 2} - {axis}))
        kept = np.flatnonzero(plane > 0.0005 * seen.size / seen.shape[axis])
        whole = (0, len(plane))
        spans.append((max(kept[0] - 3, 0), min(kept[-1] + 4, len(plane))) if len(kept) else whole)
    for order in itertools.permutations(range(3)):
        axes = (0, *(1 + axis for axis in order))
        laid = np.ascontiguousarray(image.transpose(axes)).transpose(np.argsort(axes))
        turned = laid[:, ::-1]
        assert foreground_box(laid, thresholds) == tuple(zip(*spans, strict=True))
        start, stop = foreground_box(turned, thresholds)
        assert (turned.shape[1] - stop[0], turned.shape[1] - start[0]) == spans[0]
