"""AMOS and Synapse by DHC's protocol against its official functions: grids, intensities, windows, scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv3d

from golden_files import golden
from official_samples import cut, cut_centre, paddings
from semiseg.conversion.papers.abdomen import WINDOW, halved, resize_image, resize_label, scale_window
from semiseg.metrics.mask_scores import score_masks
from semiseg.prediction.windows import sliding_labels, sliding_windows

IN_PLANE = (1, 2)  # the file's arrays are z, y, x


@pytest.fixture(scope="module")
def g() -> dict[str, np.ndarray]:
    return golden("dataset_amos_synapse")


def test_static_grid(g):
    sides = g["rs_size"].tolist()
    np.testing.assert_allclose(resize_image(g["rs_image"], sides), g["rs_image_out"], rtol=1e-5, atol=1e-5)
    label = resize_label(g["rs_label"], sides)
    np.testing.assert_array_equal(label, g["rs_label_out"])
    assert label.dtype == g["rs_label"].dtype


def test_the_order_of_axes_does_not_matter(g):
    sides = g["rs_size"].tolist()[::-1]
    np.testing.assert_allclose(resize_image(g["rs_image"].T, sides).T, g["rs_image_out"], rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(resize_label(g["rs_label"].T, sides).T, g["rs_label_out"])


def loaded(g, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The volume as it is when the loader crops: clipped and scaled, Synapse's y and x halved after that."""
    assert tuple(g["ld_clip"]) == WINDOW
    image, label = scale_window(g[f"ld_{name}_hu"]), g[f"ld_{name}_label"]
    if name == "synapse":
        half = halved(image.shape, IN_PLANE)
        image, label = resize_image(image, half), resize_label(label, half)
    return image, label


@pytest.mark.parametrize("name", ["amos", "synapse"])
def test_centre_crop(g, name):
    image, label = loaded(g, name)
    patch = g[f"ld_{name}_center_label"].shape
    np.testing.assert_allclose(cut_centre(image, patch)[None], g[f"ld_{name}_center_image"], atol=1e-5)
    np.testing.assert_array_equal(cut_centre(label, patch), g[f"ld_{name}_center_label"])


@pytest.mark.parametrize("name", ["amos", "synapse"])
def test_random_crop_and_flips(g, name):
    image, label = loaded(g, name)
    patch = g[f"ld_{name}_random_label"].shape
    rng = np.random.RandomState(int(g["ld_numpy_seed"]))
    padded = [side + 2 * pad for side, pad in zip(image.shape, paddings(image.shape, patch), strict=True)]
    corner = [int(rng.randint(0, size - side)) for size, side in zip(padded, patch, strict=True)]
    (first, _), (_, second) = rng.uniform(size=2), rng.uniform(size=2)
    axes = [axis for axis, drawn in ((1, first), (2, second)) if drawn <= 0.5]
    image, label = (np.flip(cut(array, patch, corner), axes) for array in (image, label))
    np.testing.assert_allclose(image[None], g[f"ld_{name}_random_image"], atol=1e-5)
    np.testing.assert_array_equal(label, g[f"ld_{name}_random_label"])


def network(g, *letters: str):
    """Softmax of the mean logits of the file's nets, a convolution each."""
    weights = [(torch.from_numpy(g[f"sw_w{letter}"]), torch.from_numpy(g[f"sw_b{letter}"])) for letter in letters]

    def predict(images: Tensor) -> Tensor:
        logits = [conv3d(images, weight, bias, padding=1) for weight, bias in weights]
        return (sum(logits) / len(logits)).softmax(1)  # type: ignore[union-attr]

    return predict


def windows(g) -> tuple[list[int], list[int]]:
    in_plane = int(g["sw_stride_xy"])
    return g["sw_patch_zyx"].tolist(), [int(g["sw_stride_z"]), in_plane, in_plane]


@pytest.mark.parametrize("name", ["", "synapse_"])
def test_windows_of_two_networks(g, name):
    image = g[f"sw_{name}image"]
    if name:
        image = resize_image(image, halved(image.shape, IN_PLANE))
    volume = torch.from_numpy(image)[None]
    probabilities = sliding_windows(network(g, "A", "B"), volume, *windows(g), batch=2)
    np.testing.assert_allclose(probabilities.numpy(), g[f"sw_{name}prob"], atol=1e-4)
    best = np.sort(g[f"sw_{name}prob"], axis=0)
    clear = best[-1] - best[-2] > 1e-5
    labels = sliding_labels(network(g, "A", "B"), volume, *windows(g), batch=2).numpy()
    np.testing.assert_array_equal(labels[clear], g[f"sw_{name}label"][clear])
    assert clear.mean() > 0.99


def test_windows_of_one_network(g):
    volume = torch.from_numpy(g["sw_image"])[None]
    probabilities = sliding_windows(network(g, "A"), volume, *windows(g), batch=2)
    np.testing.assert_allclose(probabilities.numpy(), g["sw_single_prob"], atol=1e-4)


def test_scores(g):
    classes = range(1, g["ev_values"].shape[1] + 1)
    values = []
    for prediction, label in zip(g["ev_pred"], g["ev_label"], strict=True):
        scores = [score_masks(prediction == k, label == k, empty="dhc") for k in classes]
        values.append([(100 * score["dice"], score["asd_voxel"]) for score in scores])
    found = np.array(values)
    np.testing.assert_allclose(found, g["ev_values"], atol=1e-6)
    np.testing.assert_allclose(found.mean(0), g["ev_class_mean"], atol=1e-6)
    np.testing.assert_allclose(found.mean((0, 1)), [g["ev_avg_dice"], g["ev_avg_asd"]], atol=1e-6)


def test_labels_at_full_size_are_halved_for_scoring(g):
    for full, label in zip(g["ev_label_fullres"], g["ev_label"], strict=True):
        np.testing.assert_array_equal(resize_label(full, halved(full.shape, IN_PLANE)), label)
