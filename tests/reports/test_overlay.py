"""Overlay pictures: what is drawn, to which scale, and for which cases."""

from __future__ import annotations

import io
import math

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from semiseg.errors import InputError
from semiseg.evaluation.evaluate import evaluate
from semiseg.evaluation.pairs import label_files
from semiseg.evaluation.scores import Row, Scores
from semiseg.metrics.metrics import Distances, MaskScores
from semiseg.reports.cohort import extremes
from semiseg.reports.overlay import overlay, overlay_extremes
from semiseg.reports.planes import COLOURS, class_colour

NAMES = ("background", "organ", "tumour")


def pixels(path):
    return matplotlib.image.imread(io.BytesIO(path.read_bytes()))[..., :3]


def where(picture, colour, tolerance=0.02):
    return np.argwhere(np.abs(picture - to_rgb(colour)).max(-1) < tolerance)


def volume(shape=(30, 24, 20)):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    truth = np.zeros(shape, np.uint8)
    truth[5:20, 6:18, 4:14] = 1
    truth[8:14, 9:14, 6:10] = 2
    return image, truth, np.roll(truth, 2, 0)


@pytest.mark.parametrize("affine", [None, np.diag([0.5, 0.5, 2, 1])])
def test_every_class_and_the_reference_outline_are_drawn(tmp_path, affine):
    overlay(*volume(), tmp_path / "deep" / "x.png", class_names=NAMES, affine=affine, title="case")
    picture = pixels(tmp_path / "deep" / "x.png")
    for colour in (*COLOURS[:2], "white"):
        assert len(where(picture, colour)) > 100
    assert len(where(picture, COLOURS[2])) == 0


def test_21_classes_have_colours_of_their_own():
    assert len({class_colour(label) for label in range(1, 22)}) == 21


def test_reference_outline_is_on_the_prediction_only(tmp_path):
    black, truth = np.zeros((40, 40)), np.zeros((40, 40), np.uint8)
    truth[10:30, 5:30] = 1
    overlay(black, truth * 0, truth * 0, tmp_path / "none.png", class_names=NAMES)
    overlay(black, truth, truth * 0, tmp_path / "truth.png", class_names=NAMES)
    none, with_truth = pixels(tmp_path / "none.png"), pixels(tmp_path / "truth.png")
    legend = len(where(none, COLOURS[0]))
    assert len(where(with_truth, COLOURS[0])) > legend
    middle = with_truth.shape[1] // 2
    inner = slice(with_truth.shape[0] // 4, -with_truth.shape[0] // 4)
    assert len(where(with_truth[inner, :middle], "white")) == 0
    assert len(where(with_truth[inner, middle:], "white")) > 50


def test_millimetres_are_square(tmp_path):
    shape, spacing = (40, 10, 1), (0.5, 2.0, 1.0)
    truth = np.zeros(shape, np.uint8)
    truth[10:30, 2:7] = 1
    overlay(np.zeros(shape), truth, truth * 0, tmp_path / "x.png", class_names=NAMES, affine=np.diag([*spacing, 1]))
    picture = pixels(tmp_path / "x.png")
    found = where(picture[: int(0.85 * len(picture))], COLOURS[0], 0.1)
    height, width = np.ptp(found, axis=0)
    assert width == pytest.approx(height, rel=0.03)


def test_storage_order_does_not_matter(tmp_path):
    image, truth, prediction = volume()
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    overlay(image, truth, prediction, tmp_path / "ras.png", class_names=NAMES, affine=affine)
    stored = [array[::-1].transpose(2, 0, 1) for array in (image, truth, prediction)]
    other = affine @ np.array([[0, -1, 0, 29], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    overlay(*stored, tmp_path / "other.png", class_names=NAMES, affine=other)
    np.testing.assert_array_equal(pixels(tmp_path / "ras.png"), pixels(tmp_path / "other.png"))


@pytest.mark.parametrize("shape", [(6, 5), (3, 200, 90), (40, 40, 2), (300, 4, 1)])
def test_odd_shapes_and_many_classes(tmp_path, shape):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 25, shape)
    names = ("background", *(f"structure with a long name {k}" for k in range(1, 25)))
    overlay(np.ones(shape), labels, labels * 0, tmp_path / "x.png", class_names=names, title="a title")
    height, width, _ = pixels(tmp_path / "x.png").shape
    assert 100 < height < 4000
    assert 700 < width < 2100


def test_shapes_must_agree(tmp_path):
    image, truth, prediction = volume()
    with pytest.raises(InputError, match="one shape"):
        overlay(image, truth, prediction[1:], tmp_path / "x.png", class_names=NAMES)
    assert not list(tmp_path.iterdir())


def scored(*dices):
    far = Distances.all_equal(1.0)
    rows = [Row(f"c{index}", 1, MaskScores(dice, dice, far, far, 1, 1)) for index, dice in enumerate(dices)]
    return Scores(tuple(rows), ("background", "organ"), "diagonal", False)


@pytest.mark.parametrize(
    ("dices", "expected"),
    [
        ((0.5, 0.9, 0.2, math.nan, 0.7), {"worst": "c2", "median": "c0", "best": "c1"}),
        ((0.5, 0.9), {"worst": "c0", "best": "c1"}),
        ((0.5,), {"worst": "c0"}),
        ((math.nan,), {}),
    ],
)
def test_extremes(dices, expected):
    assert extremes(scored(*dices).case_means("dice")) == expected


def test_extremes_are_drawn_from_files(tmp_path):
    image, truth, _ = volume()
    for index in range(4):
        for folder, array in (("i", image), ("l", truth), ("p", np.roll(truth, index, 0))):
            (tmp_path / folder).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / folder / f"c{index}.nii.gz")
    scores = evaluate(tmp_path / "p", tmp_path / "l", class_names=NAMES)
    images, labels, predictions = (label_files(tmp_path / folder) for folder in "ilp")
    written = overlay_extremes(scores, images, labels, predictions, tmp_path / "out")
    assert {role: path.name for role, path in written.items()} == {
        "worst": "worst_c3.png",
        "median": "median_c2.png",
        "best": "best_c0.png",
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written.values())
