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
