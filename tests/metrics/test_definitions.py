"""Metrics against medpy, by their definitions, and for empty masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from medpy.metric import binary

from semiseg.errors import InputError
from semiseg.metrics import surfaces
from semiseg.metrics.dice import dice
from semiseg.metrics.mask_scores import score_masks

SPACINGS = st.floats(0.2, 8.0, allow_nan=False)


def close(value):
    return pytest.approx(value, abs=1e-9, rel=1e-9)


def medpy_distances(prediction, truth, spacing):
    forward = binary.__surface_distances(prediction, truth, spacing, 1)
    backward = binary.__surface_distances(truth, prediction, spacing, 1)
    return {
        "hd95": binary.hd95(prediction, truth, spacing),
        "hd": binary.hd(prediction, truth, spacing),
        "asd": binary.asd(prediction, truth, spacing),
        "asd_reversed": binary.asd(truth, prediction, spacing),
        "assd": np.concatenate([forward, backward]).mean(),
    }


def distances(scores, unit):
    """All distances in a unit by name."""
    return {name: scores[f"{name}_{unit}"] for name in ("hd95", "hd", "asd", "asd_reversed", "assd")}


@st.composite
def mask_pairs(draw):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.02, 0.2, 0.9]))
    return [rng.random(shape) < density for _ in range(2)]


@settings(max_examples=60, deadline=None)
@given(pair=mask_pairs(), data=st.data())
def test_equal_to_medpy(pair, data):
    prediction, truth = pair
    assume(prediction.any() and truth.any())
    spacing = data.draw(st.lists(SPACINGS, min_size=truth.ndim, max_size=truth.ndim))
    scores = score_masks(prediction, truth, spacing)
    assert scores["dice"] == close(binary.dc(prediction, truth))
    assert scores["jaccard"] == close(binary.jc(prediction, truth))
    for unit, steps in (("voxel", None), ("mm", spacing)):
        assert distances(scores, unit) == close(medpy_distances(prediction, truth, steps))


@settings(max_examples=40, deadline=None)
@given(pair=mask_pairs())
def test_both_searches_agree(pair):
    points, targets = pair
    assume(targets.any())
    spacing = (0.7, 1.3, 5.0)[: targets.ndim]
    by_tree = surfaces._nearest_by_tree(points, targets, spacing)
    np.testing.assert_allclose(by_tree, surfaces._nearest_by_transform(points, targets, spacing), atol=1e-12)


@pytest.mark.skipif(surfaces.edt is None, reason="edt is not installed")
@settings(max_examples=40, deadline=None)
@given(pair=mask_pairs(), order=st.sampled_from("CF"))
def test_the_extra_transform_gives_the_very_same_distances(pair, order):
    points, targets = (np.asarray(mask, order=order) for mask in pair)
    assume(targets.any())
    unit = (1.0,) * targets.ndim
    fast = surfaces._nearest_by_transform(points, targets, unit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surfaces, "edt", None)
        np.testing.assert_array_equal(fast, surfaces._nearest_by_transform(points, targets, unit))


def test_distances_beyond_float32_are_left_to_scipy(monkeypatch):
    class Refuses:
        edtsq = None

    monkeypatch.setattr(surfaces, "edt", Refuses)
    mask = np.zeros((1, 5000), bool)
    mask[0, [0, -1]] = True
    points = np.zeros_like(mask)
    points[0, 2000] = True
    assert surfaces._nearest_by_transform(points, mask, (1.0, 1.0)).tolist() == [2000.0]


def test_far_false_positive_uses_the_tree_and_equals_medpy(monkeypatch):
    monkeypatch.setattr(surfaces, "_nearest_by_transform", None)
    prediction, truth = np.zeros((2, 40, 50, 30), bool)
    truth[25:33, 35:44, 20:27] = True
    prediction[26:34, 35:43, 21:27] = prediction[1, 2, 1] = True
    found = distances(score_masks(prediction, truth, (0.5, 1, 2)), "mm")
    assert found == close(medpy_distances(prediction, truth, (0.5, 1, 2)))


def test_distances_in_mm_and_voxels_of_two_voxels():
    prediction, truth = np.zeros((2, 5, 5, 5), bool)
    prediction[0, 0, 0] = truth[0, 3, 4] = True
    scores = score_masks(prediction, truth, (1, 2, 0.5))
    assert set(distances(scores, "voxel").values()) == {5.0}
    assert set(distances(scores, "mm").values()) == {math.hypot(6, 2)}


def test_asd_goes_from_prediction_to_truth_only():
    prediction, truth = np.zeros((2, 1, 10), bool)
    prediction[0, 0] = True
    truth[0, [0, 6]] = True
    scores = score_masks(prediction, truth)
    assert (scores["asd_voxel"], scores["asd_reversed_voxel"], scores["assd_voxel"]) == (0, 3, 2)


def test_surface_includes_the_border_and_walls_of_holes():
    mask = np.ones((5, 5, 5), bool)
    mask[2, 2, 2] = False
    surface = surfaces.surface(mask)
    assert np.count_nonzero(surface) == 5**3 - 3**3 + 6
    assert not surface[1, 1, 1]
    assert surface[1, 2, 2]


@pytest.mark.parametrize(("predicted", "true"), [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("rule", ["official", "nan", "diagonal"])
def test_empty_masks(rule, predicted, true):
    prediction, truth = np.zeros((2, 3, 4, 12), bool)
    prediction[1, 1, 1], truth[1, 1, 1] = predicted, true
    scores = score_masks(prediction, truth, (4, 1, 1), empty=rule)
    both = not predicted and not true
    undefined = both and rule != "official"
    assert scores["dice"] == pytest.approx(math.nan if undefined else 0, nan_ok=True)
    assert scores["jaccard"] == pytest.approx(math.nan if undefined else 0, nan_ok=True)
    voxel, mm = {"official": (0, 0), "nan": (math.nan, math.nan), "diagonal": (13, math.hypot(12, 4, 12))}[rule]
    if undefined:
        voxel = mm = math.nan
    for unit, value in (("voxel", voxel), ("mm", mm)):
        assert [*distances(scores, unit).values()] == pytest.approx([value] * 5, nan_ok=True)
    assert (scores.prediction_voxels, scores.truth_voxels) == (int(predicted), int(true))


@pytest.mark.parametrize(("predicted", "true"), [(True, False), (False, True), (False, False)])
def test_empty_masks_by_the_rule_of_dhc(predicted, true):
    prediction, truth = np.zeros((2, 3, 4, 12), bool)
    prediction[1, 1, 1], truth[1, 1, 1] = predicted, true
    scores = score_masks(prediction, truth, (4, 1, 1), empty="dhc")
    one = predicted or true
    assert (scores["dice"], scores["jaccard"]) == ((0, 0) if one else (0.01, 0.01))
    for unit in ("voxel", "mm"):
        assert [*distances(scores, unit).values()] == ([128] * 5 if one else [0] * 5)


def test_dice_alone():
    rng = np.random.default_rng(0)
    prediction, truth = rng.random((2, 8, 9)) < 0.5
    assert dice(prediction, truth) == score_masks(prediction, truth)["dice"]
    assert math.isnan(dice(np.zeros((2, 2)), np.zeros((2, 2))))


def test_any_number_but_zero_is_foreground():
    mask = np.zeros((4, 4), np.float32)
    mask[1, 1] = 0.25
    assert score_masks(mask, mask > 0)["dice"] == 1


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((3, 4), (4, 3)), {}, "one shape"),
        (((3,), (3,)), {}, "2 or 3 axes"),
        (((3, 4), (3, 4)), {"spacing": (1, 1, 1)}, "spacing of 2"),
        (((3, 4), (3, 4)), {"spacing": (1, 0)}, "positive"),
        (((3, 4), (3, 4)), {"spacing": (1, math.nan)}, "positive"),
        (((3, 4), (3, 4)), {"empty": "officical"}, "did you mean 'official'"),
    ],
)
def test_wrong_input(shapes, options, message):
    with pytest.raises(InputError, match=message):
        score_masks(*map(np.ones, shapes), **options)
