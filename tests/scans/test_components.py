"""Largest connected component against scikit-image, for masks and label maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label as skimage_label

from semiseg.scans import components
from semiseg.scans.components import largest_component


def slow(mask, connectivity):
    found = skimage_label(mask, connectivity=connectivity)
    return found == np.argmax(np.bincount(found.ravel())[1:]) + 1 if mask.any() else mask


@st.composite
def masks(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = rng.integers(1, 9, size=draw(st.sampled_from([2, 3])))
    return rng.random(shape) < draw(st.sampled_from([0.05, 0.2, 0.6]))


@settings(max_examples=80, deadline=None)
@given(mask=masks(), neighbours=st.sampled_from(["all", "faces"]), order=st.sampled_from("CF"))
def test_equal_to_scikit_image(mask, neighbours, order):
    found = largest_component(np.asarray(mask, order=order), neighbours)
    np.testing.assert_array_equal(found, slow(mask, None if neighbours == "all" else 1))


@pytest.mark.skipif(components.cc3d is None, reason="cc3d is not installed")
@settings(max_examples=60, deadline=None)
@given(mask=masks(), neighbours=st.sampled_from(["all", "faces"]), order=st.sampled_from("CF"))
def test_the_extra_library_keeps_the_very_same_component(mask, neighbours, order):
    mask = np.asarray(mask, order=order)
    fast = largest_component(mask, neighbours)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(components, "cc3d", None)
        np.testing.assert_array_equal(fast, largest_component(mask, neighbours))


def test_a_row_of_voxels():
    assert largest_component(np.array([1, 0, 1, 0, 1, 1], bool).reshape(6, 1, 1)).ravel().tolist() == [0, 0, 0, 0, 1, 1]


def test_corner_contact_joins_by_default():
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[3, 3, 3] = 1
    assert largest_component(mask).sum() == 2
    assert largest_component(mask, "faces").sum() == 1


@pytest.mark.parametrize("order", ["C", "F"])
def test_first_of_equal_components_stays(order):
    mask = np.zeros((3, 5), bool, order=order)
    mask[0, 4] = mask[2, 0] = True
    assert np.argwhere(largest_component(mask)).tolist() == [[0, 4]]


def test_every_class_keeps_its_own():
    labels = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [3, 0, 3, 3]], np.uint8)
    kept = largest_component(labels)
    assert kept.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 3, 3]]
    assert kept.dtype == labels.dtype
    assert labels[2, 0] == 3


def test_nothing_in_nothing_out():
    assert not largest_component(np.zeros((3, 4, 5), bool)).any()
