"""Grids of AMOS and Synapse against torch, which the papers' code calls, and intensities at their edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from semiseg.conversion.papers.abdomen import WINDOW, halved, resize_image, resize_label, scale_window

sides = st.integers(2, 200)


@settings(max_examples=200, deadline=None)
@given(st.lists(sides, min_size=1, max_size=1), sides)
def test_nearest_voxels_are_those_of_torch(old, new):
    line = np.arange(old[0], dtype=np.uint8)[:, None, None]
    expected = interpolate(torch.from_numpy(line)[None, None].float(), size=(new, 1, 1), mode="nearest")
    found = resize_label(line, (new, 1, 1))
    np.testing.assert_array_equal(found, expected[0, 0].numpy())
    assert found.dtype == np.uint8


@pytest.mark.parametrize("size", [(512, 512, 147), (160, 160, 80), (33, 170, 1), (768, 768, 39)])
def test_the_grids_of_real_scans_are_those_of_torch(size):
    for side, new in zip(size, (160, 160, 80), strict=True):
        line = np.arange(side, dtype=np.float32)[:, None, None]
        for mode, ours in (("nearest", resize_label), ("trilinear", resize_image)):
            kind = {} if mode == "nearest" else {"align_corners": False}
            expected = interpolate(torch.from_numpy(line)[None, None], size=(new, 1, 1), mode=mode, **kind)[0, 0]
            np.testing.assert_allclose(ours(line, (new, 1, 1)), expected.numpy(), rtol=1e-6, atol=2e-5)


def test_halving_is_the_mean_of_two_by_two_and_every_second_label():
    rng = np.random.default_rng(0)
    image, label = rng.normal(size=(8, 6, 3)), rng.integers(0, 4, (8, 6, 3))
    half = halved(image.shape, (0, 1))
    assert half == (4, 3, 3)
    np.testing.assert_allclose(resize_image(image, half), image.reshape(4, 2, 3, 2, 3).mean((1, 3)), atol=1e-6)
    np.testing.assert_array_equal(resize_label(label, half), label[::2, ::2])


def test_intensities():
    scaled = scale_window(np.array([[[-1000, -75, 100, 275, 3000]]], np.int16))
    np.testing.assert_allclose(scaled[0, 0], [0, 0, 0.5, 1, 1])
    bright = scale_window(np.array([[[0, 25, 50]]]))  # the volume's own range, not the window's
    np.testing.assert_allclose(bright[0, 0], [0, 0.5, 1])
    np.testing.assert_array_equal(scale_window(np.full((1, 1, 2), WINDOW[1] + 5)), 0)
    np.testing.assert_array_equal(scale_window(scaled), scaled)
