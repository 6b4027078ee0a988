"""ACDC's slices, their changes and the scores of volumes against the official loader and test functions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from golden_files import golden
from official_slices import ANGLES, SliceChange, change_slice, draw_change
from semiseg.batches.augment import Params, apply
from semiseg.conversion.papers.arrays import unit_range
from semiseg.metrics.metrics import overlap_and_surface
from semiseg.scans.resample import zoom_nearest

DRAWS = 4000
SHARE = 0.03


@pytest.fixture(scope="module")
def g() -> dict[str, np.ndarray]:
    return golden("dataset_acdc")


def groups(g: dict[str, np.ndarray], name: str) -> list[str]:
    found = sorted({key.rsplit("/", 1)[0] for key in g if key.startswith(f"{name}/")})
    assert found
    return found


def test_turns_and_flips(g):
    for group in groups(g, "rotflip"):
        change = SliceChange(quarters=int(g[f"{group}/k"]), flip=int(g[f"{group}/axis"]))
        for kind in ("image", "label"):
            np.testing.assert_array_equal(change_slice(g[f"slice/{kind}"], change), g[f"{group}/{kind}"], err_msg=group)


def test_small_rotations(g):
    for group in groups(g, "rotate"):
        change = SliceChange(angle=int(g[f"{group}/angle"]))
        assert ANGLES[0] <= int(g[f"{group}/angle"]) < ANGLES[1]
        for kind in ("image", "label"):
            np.testing.assert_array_equal(change_slice(g[f"slice/{kind}"], change), g[f"{group}/{kind}"], err_msg=group)


def test_training_rotates_like_the_official_function(g):
    """The package's own batched rotation, by nearest voxels and with zeros around the slice, as the preset has it.

    The official function leaves zero where it looks between the outermost voxel's centre and its border.
    """
    shape = g["slice/image"].shape
    window = [side + 2 * (int(0.4 * side) // 2) for side in shape]
    around = [((w - side) // 2,) * 2 for w, side in zip(window, shape, strict=True)]
    image, label = (torch.from_numpy(np.pad(g[f"slice/{kind}"], around))[None] for kind in ("image", "label"))
    for group in groups(g, "rotate"):
        angle = math.radians(float(g[f"{group}/angle"]))
        matrix = ((math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle)))
        params = Params(matrix=matrix, nearest=True, flips=(False, False))
        middle = (np.array(shape)[:, None, None] - 1) / 2
        source = np.einsum("ij,jhw->ihw", np.array(matrix), np.indices(shape) - middle) + middle
        inside = ((source >= 0) & (source <= 2 * middle)).all(0)
        assert inside.mean() > 0.5
        for found, kind in zip(apply(image[None], label, [params], shape), ("image", "label"), strict=True):
            same = found[0].squeeze(0).numpy() == g[f"{group}/{kind}"]
            assert same[inside].mean() > 0.995, group  # a place half-way between two voxels may be rounded either way


def test_resize_and_back(g):
    sides = g["slice/output_size"].tolist()
    for kind in ("image", "label"):
        resized = zoom_nearest(g[f"slice/{kind}"], sides)
        np.testing.assert_array_equal(resized, g[f"resize/{kind}"])
        assert resized.dtype == g[f"resize/{kind}"].dtype
    np.testing.assert_array_equal(zoom_nearest(g["resize/label"], g["slice/label"].shape), g["resize/back_label"])


@pytest.mark.parametrize(("name", "rule"), [("old", "bcp"), ("new", "ssl4mis")])
def test_shares_of_the_branches(g, name, rule):
    rng = np.random.default_rng(5)
    drawn = [draw_change(rng, rule) for _ in range(DRAWS)]
    flipped = sum(change.flip is not None for change in drawn) / DRAWS
    rotated = sum(change.angle is not None for change in drawn) / DRAWS
    assert flipped == pytest.approx(float(g[f"branch/{name}_rotflip_share"]), abs=SHARE)
    assert rotated == pytest.approx(float(g[f"branch/{name}_rotate_share"]), abs=SHARE)


def test_a_slice_may_stay_as_it_is(g):
    np.testing.assert_array_equal(change_slice(g["slice/image"], SliceChange()), g["slice/image"])


def predict(g, volume: np.ndarray, sides) -> np.ndarray:
    """Labels of a volume by the file's formula for a network, slice by slice on a grid of `sides`."""
    x = torch.from_numpy(zoom_nearest(volume, (len(volume), *sides)))
    logits = torch.stack([-float(g["net/scale"]) * (x - index / 3) ** 2 for index in range(4)], dim=1)
    labels = logits.softmax(1).argmax(1).numpy().astype(np.uint8)
    return zoom_nearest(labels, volume.shape)


@pytest.mark.parametrize("name", ["vol", "vol_missing"])
def test_scores_of_volumes(g, name):
    image, label = g[f"{name}/image"], g[f"{name}/label"]
    small, full = predict(g, image, g[f"{name}/val_size"].tolist()), predict(g, image, (256, 256))
    np.testing.assert_array_equal(full, g[f"{name}/prediction_256"])
    for index, (validation, test) in enumerate(
        zip(g[f"{name}/val_dice_hd95"], g[f"{name}/test_dice_jc_hd95_asd"], strict=True), start=1
    ):
        scores = overlap_and_surface(small == index, label == index, empty="official")
        assert [scores.dice, scores.voxel.hd95] == pytest.approx(validation, abs=1e-6)
        scores = overlap_and_surface(full == index, label == index, empty="official")
        assert [scores.dice, scores.jaccard, scores.voxel.hd95, scores.voxel.asd] == pytest.approx(test, abs=1e-6)


def test_scaling_takes_the_whole_volume(g):
    image = g["vol/image"]
    expected = (image - image.min()) / (image.max() - image.min())
    np.testing.assert_allclose(unit_range(1500 * image + 30), expected, atol=1e-6)
    np.testing.assert_array_equal(unit_range(np.full_like(image, 7)), 0)
