import numpy as np
import pytest
from scipy import ndimage

from semiseg.scans.resample import classes_by_vote, resample, resample_label


def zoomed(volume, shape, order):
    factors = [new / old for new, old in zip(shape, volume.shape, strict=True)]
    return ndimage.zoom(volume.astype(np.float64), factors, order=order, mode="reflect", grid_mode=True)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("shape", [(13, 11, 7), (26, 5, 9), (7, 22, 20), (13, 11, 3)])
def test_equals_scipy_zoom(order, shape):
    volume = np.random.default_rng(0).normal(size=(13, 11, 7)).astype(np.float32)
    before = volume.copy()
    result = resample(volume, shape, (order,) * 3)
    assert result.shape == shape
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, zoomed(volume, shape, order), atol=2e-5)
    np.testing.assert_array_equal(volume, before)


def test_orders_may_differ_by_axis():
    volume = np.random.default_rng(1).normal(size=(8, 9, 4)).astype(np.float32)
    in_plane = zoomed(volume, (12, 12, 4), 3)
    np.testing.assert_allclose(resample(volume, (12, 12, 8), (3, 3, 1)), zoomed(in_plane, (12, 12, 8), 1), atol=1e-4)
    np.testing.assert_allclose(resample(volume, (12, 12, 8), (3, 3, 0)), np.repeat(in_plane, 2, axis=2), atol=1e-4)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_single_voxels_and_constants(order):
    volume = np.full((1, 2, 3), 7, np.int16)
    np.testing.assert_allclose(resample(volume, (4, 1, 5), (order,) * 3), 7, rtol=1e-3)


def test_memory_map_is_not_written(tmp_path):
    path = tmp_path / "volume.npy"
    np.save(path, np.random.default_rng(0).normal(size=(6, 6, 6)).astype(np.float32))
    before = path.read_bytes()
    resample(np.load(path, mmap_mode="r+"), (9, 9, 9), (3, 3, 3))
    assert path.read_bytes() == before


def test_order_zero_repeats_voxels():
    volume = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    np.testing.assert_array_equal(resample(volume, (1, 4, 6), (0, 0, 0)), volume.repeat(2, 1).repeat(2, 2))


def test_labels_go_by_the_larger_share():
    label = np.zeros((8, 8, 8), np.uint8)
    label[:5] = 3
    label[5:, :4] = 7
    result = resample_label(label, (4, 4, 4))
    assert result.dtype == np.uint8
    assert set(np.unique(result)) <= {0, 3, 7}
    np.testing.assert_array_equal(result[:2], 3)
    np.testing.assert_array_equal(result[3, :2], 7)


def test_labels_against_one_hot_argmax():
    label = np.random.default_rng(2).integers(0, 4, (9, 8, 7)).astype(np.uint8)
    shape = (12, 5, 7)
    scores = [resample((label == c).astype(np.float32), shape, (1, 1, 1)) for c in range(4)]
    np.testing.assert_array_equal(resample_label(label, shape), np.argmax(scores, axis=0))


def test_ties_go_to_the_first_class():
    flat = np.full((2, 2, 2), 0.5)
    np.testing.assert_array_equal(classes_by_vote([flat, flat], [4, 5]), 4)
