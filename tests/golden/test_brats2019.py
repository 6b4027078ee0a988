"""BraTS 2019: preprocessing and samples against the official functions."""

from __future__ import annotations

import numpy as np
import pytest

from golden_files import golden
from official_samples import cut, draw_sample, paddings, sample
from semiseg.conversion.papers.brats2019 import brain_box, clip_top, whole_tumour


@pytest.fixture(scope="module")
def g() -> dict[str, np.ndarray]:
    return golden("brats2019")


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_preprocessing(g, kind):
    flair, segmentation = g[f"{kind}_flair"], g[f"{kind}_seg"]
    assert flair.dtype == kind
    boxed = flair[brain_box(flair)]
    np.testing.assert_array_equal(boxed, g[f"{kind}_bbox_flair"])
    np.testing.assert_allclose(clip_top(boxed, float(g["percent"])), g[f"{kind}_clipped"], rtol=1e-6)
    image, label, _ = whole_tumour(flair, segmentation)
    np.testing.assert_allclose(image, g[f"{kind}_image"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(label, g[f"{kind}_label"])
    assert image.dtype == np.float32


@pytest.mark.parametrize("number", [0, 1, 2])
def test_samples(g, number):
    random, patch = np.random.RandomState(int(g["seed"]) + number), g["patch"].tolist()
    draw = draw_sample(g["int16_image"].shape, patch, random.randint)
    for kind in ("image", "label"):
        found = sample(g[f"int16_{kind}"], patch, draw)
        np.testing.assert_allclose(found, g[f"aug{number}_{kind}"], rtol=1e-5, atol=1e-6)


def test_a_scan_that_is_too_short(g):
    random, patch = np.random.RandomState(int(g["seed"]) + 9), g["pad_patch"].tolist()
    before = paddings(g["int16_image"].shape, patch)
    assert any(before)
    lengths = [length + 2 * pad for length, pad in zip(g["int16_image"].shape, before, strict=True)]
    corner = [random.randint(length - side) for length, side in zip(lengths, patch, strict=True)]
    for kind in ("image", "label"):
        found = cut(g[f"int16_{kind}"], patch, corner)
        np.testing.assert_allclose(found, g[f"pad_{kind}"], rtol=1e-5, atol=1e-6)
