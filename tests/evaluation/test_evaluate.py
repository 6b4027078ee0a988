"""Scoring folders: pairing, grids, classes, empty masks, files."""

from __future__ import annotations

import csv
import importlib
import json
import math

import nibabel as nib
import numpy as np
import pytest

from semiseg.errors import InputError
from semiseg.evaluation.evaluate import evaluate
from semiseg.evaluation.pairs import label_files
from semiseg.metrics.base import columns
from semiseg.metrics.mask_scores import score_masks
from semiseg.scans.components import largest_component

module = importlib.import_module("semiseg.evaluation.evaluate")

SPACING = np.diag([0.5, 1.0, 3.0, 1.0])


def write(folder, name, array, affine=SPACING):
    folder.mkdir(exist_ok=True, parents=True)
    nib.save(nib.Nifti1Image(np.asarray(array, np.uint8), affine), folder / name)


def blocks(shift=0, shape=(14, 12, 8)):
    """Classes 1 and 2 as blocks, moved along the first axis."""
    labels = np.zeros(shape, np.uint8)
    labels[1 + shift : 6 + shift, 2:6, 1:4] = 1
    labels[7 + shift : 11 + shift, 5:10, 3:7] = 2
    return labels


@pytest.fixture
def folders(tmp_path):
    for case, shift in (("a", 0), ("b", 1), ("c", 2)):
        write(tmp_path / "labels", f"{case}.nii.gz", blocks())
        write(tmp_path / "predictions", f"{case}.nii.gz", blocks(shift))
    return tmp_path / "predictions", tmp_path / "labels"


def test_rows_hold_the_metrics_of_each_case_and_class(folders):
    scores = evaluate(*folders)
    assert scores.cases == ("a", "b", "c")
    assert scores.class_names == ("background", "class 1", "class 2")
    assert [(row.case, row.label) for row in scores.rows] == [(c, k) for c in "abc" for k in (1, 2)]
    for row, shift in zip(scores.rows, (0, 0, 1, 1, 2, 2), strict=True):
        expected = score_masks(blocks(shift) == row.label, blocks() == row.label, (0.5, 1, 3))
        assert row.scores == expected


def test_summary_over_cases_and_classes(folders):
    scores = evaluate(*folders, class_names=("background", "left", "right"))
    values = scores.values("dice", 1)
    summary = scores.summary("dice", 1)
    assert (summary.mean, summary.std, summary.count) == (
        pytest.approx(values.mean()),
        pytest.approx(values.std(ddof=1)),
        3,
    )
    assert scores.mean("dice") == pytest.approx((values.mean() + scores.values("dice", 2).mean()) / 2)
    assert list(scores.case_means()) == ["a", "b", "c"]
    assert scores.case_means()["b"] == pytest.approx((values[1] + scores.values("dice", 2)[1]) / 2)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("many", [0, 1 << 28])
def test_workers_change_nothing(folders, workers, many, monkeypatch):
    expected = evaluate(*folders, workers=2)
    monkeypatch.setattr(module, "_MANY", many)
    assert evaluate(*folders, workers=workers) == expected


def test_many_cases_are_scored_in_processes(folders, monkeypatch):
    monkeypatch.setattr(module, "_MANY", 0)
    monkeypatch.setattr(module, "ThreadPoolExecutor", None)
    expected = [row.case for row in evaluate(*folders, workers=2).rows]
    assert expected == sorted(expected)
    cut = folders[0] / "b.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-12])
    (problem,) = refused(*folders, workers=2)
    assert problem.startswith(f"{cut}: ")


def test_files_tell_everything(folders, tmp_path):
    write(folders[0], "extra.nii.gz", blocks())
    write(folders[0], "c.nii.gz", np.where(blocks() == 2, 0, blocks()))
    scores = evaluate(*folders, class_names=("background", "left", "right"), output=tmp_path / "out" / "deep")
    with (tmp_path / "out" / "deep" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert [float(rows[2][metric]) for metric in columns()] == [scores.rows[2].scores[metric] for metric in columns()]
    assert rows[5]["class"] == "right"
    assert (rows[5]["prediction_empty"], rows[5]["truth_empty"]) == ("1", "0")
    summary = json.loads((tmp_path / "out" / "deep" / "scores.json").read_text())
    assert summary["classes"]["right"]["empty_predictions"] == 1
    assert summary["classes"]["left"]["dice"] == {
        "mean": scores.summary("dice", 1).mean,
        "std": scores.summary("dice", 1).std,
        "cases": 3,
    }
    assert summary["mean"]["dice"] == scores.mean("dice")
    assert summary["empty_rule"]["name"] == "diagonal"
    assert "pooled" in summary["metrics"]["hd95"]
    assert summary["provenance"]["predictions_without_label"] == 1


def test_digests_follow_the_content(folders):
    first = evaluate(*folders).provenance
    write(folders[0], "b.nii.gz", blocks(2))
    second = evaluate(*folders).provenance
    assert first["labels_sha256"] == second["labels_sha256"]
    assert first["predictions_sha256"] != second["predictions_sha256"]


def test_equal_input_gives_equal_bytes(folders, tmp_path):
    for name in ("one", "two"):
        evaluate(*folders, output=tmp_path / name)
    for file in ("scores.csv", "scores.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize(
    ("rule", "dice", "count", "distance"),
    [
        ("official", [0.0, 0.0, 1.0], 3, [0, 0, 0]),
        ("nan", [0.0, math.nan, 1.0], 2, [math.nan, math.nan, 0]),
        ("diagonal", [0.0, math.nan, 1.0], 2, [math.hypot(7, 12, 24), math.nan, 0]),
    ],
)
def test_empty_masks_follow_the_rule(tmp_path, rule, dice, count, distance):
    without = np.where(blocks() == 2, 0, blocks())
    for case, prediction, truth in (("a", without, blocks()), ("b", without, without), ("c", blocks(), blocks())):
        write(tmp_path / "p", f"{case}.nii.gz", prediction)
        write(tmp_path / "l", f"{case}.nii.gz", truth)
    scores = evaluate(tmp_path / "p", tmp_path / "l", empty=rule, output=tmp_path)
    np.testing.assert_allclose(scores.values("dice", 2), dice)
    np.testing.assert_allclose(scores.values("hd95_mm", 2), distance)
    assert scores.summary("dice", 2).count == count
    found = json.loads((tmp_path / "scores.json").read_text())["classes"]["class 2"]
    assert [found[f"empty_{what}"] for what in ("predictions", "truths", "both")] == [2, 1, 1]
    assert found["dice"]["cases"] == count


def test_class_that_occurs_nowhere_is_null(folders, tmp_path):
    scores = evaluate(*folders, class_names=("background", "left", "right", "ghost"), output=tmp_path)
    summary = json.loads((tmp_path / "scores.json").read_text())
    assert summary["classes"]["ghost"]["dice"] == {"mean": None, "std": None, "cases": 0}
    assert scores.mean("dice") == pytest.approx((scores.summary("dice", 1).mean + scores.summary("dice", 2).mean) / 2)


def test_largest_component_is_kept_per_class(folders):
    spotted = blocks()
    spotted[13, 11, 7] = 1
    spotted[0, 11, 0] = 2
    write(folders[0], "a.nii.gz", spotted)
    with_spots, without = evaluate(*folders, cases=["a"]), evaluate(*folders, cases=["a"], largest_component=True)
    assert with_spots.mean("dice") < without.mean("dice") == 1
    assert (largest_component(spotted) == blocks()).all()


@pytest.mark.parametrize("shape", [(14, 12), (14, 12, 1)])
def test_images_are_scored_as_2d(tmp_path, shape):
    truth = blocks()[:, :, 3]
    prediction = np.roll(truth, 1, 0)
    write(tmp_path / "p", "a.nii.gz", prediction.reshape(shape))
    write(tmp_path / "l", "a.nii.gz", truth.reshape(14, 12, 1))
    scores = evaluate(tmp_path / "p", tmp_path / "l")
    assert scores.rows[0].scores == score_masks(prediction == 1, truth == 1, (0.5, 1))


def test_files_may_be_given_by_case(folders):
    predictions, labels = (label_files(folder) for folder in folders)
    assert evaluate(predictions, labels) == evaluate(*folders)


def test_chosen_cases_need_no_other_predictions(folders):
    (folders[0] / "a.nii.gz").unlink()
    assert evaluate(*folders, cases=["c", "b"]).cases == ("b", "c")


def refused(*arguments, **options):
    with pytest.raises(InputError) as caught:
        evaluate(*arguments, **options)
    return caught.value.problems


def test_all_missing_files_are_named(folders):
    for case in "ac":
        (folders[0] / f"{case}.nii.gz").unlink()
    problems = refused(*folders)
    assert [problem.split(":")[0] for problem in problems] == ["case a", "case c"]
    problems = refused(*folders, cases=["a", "x", "b"])
    assert ["no prediction" in problems[1], "no label file" in problems[0], len(problems)] == [True, True, 2]


def test_all_grid_problems_are_named(folders):
    moved, scaled, flipped = SPACING.copy(), SPACING * [0.5, 1, 1, 1], SPACING * [-1, 1, 1, 1]
    moved[0, 3] = 0.2
    write(folders[0], "a.nii.gz", blocks(), moved)
    write(folders[0], "b.nii.gz", blocks(), scaled)
    write(folders[0], "c.nii.gz", blocks(), flipped)
    write(folders[0], "d.nii.gz", blocks()[:-1])
    write(folders[1], "d.nii.gz", blocks())
    problems = refused(*folders)
    expected = {"a": "origin", "b": "spacing", "c": "direction", "d": "came [13, 12, 8]"}
    assert len(problems) == 4
    for problem, (case, words) in zip(problems, expected.items(), strict=True):
        assert str(folders[0] / f"{case}.nii.gz") in problem
        assert words in problem


def test_rounding_of_the_affine_is_no_problem(folders):
    nudged = SPACING + 1e-5 * np.arange(16).reshape(4, 4) / 16
    nudged[3] = SPACING[3]
    write(folders[0], "a.nii.gz", blocks(), nudged)
    assert evaluate(*folders).mean("dice") > 0


def test_unknown_labels_and_broken_files_are_named_together(folders):
    write(folders[0], "a.nii.gz", blocks() * 3)
    raw = (folders[0] / "b.nii.gz").read_bytes()
    (folders[0] / "b.nii.gz").write_bytes(raw[: len(raw) - 20])
    problems = " | ".join(refused(*folders, class_names=("background", "left", "right")))
    assert "b.nii.gz" in problems
    assert "case a: expected labels 0 to 2 (background, left, right), came also 3, 6" in problems


def test_broken_header_and_missing_file_are_named_together(folders):
    (folders[0] / "a.nii.gz").write_bytes(b"")
    predictions = label_files(folders[0]) | {"b": folders[0] / "nowhere.nii.gz"}
    problems = refused(predictions, folders[1])
    assert {"a.nii.gz" in problems[0], "nowhere.nii.gz" in problems[1]} == {True}


def test_folders_that_cannot_be_scored(folders, tmp_path):
    assert "there is none" in refused(tmp_path / "nowhere", folders[1])[0]
    (tmp_path / "bare").mkdir()
    assert "there are none" in refused(tmp_path / "bare", folders[1])[0]
    write(folders[0], "a.nii", blocks())
    assert "a second file for case a" in refused(*folders)[0]
    (folders[0] / "a.nii").unlink()
    assert "at least one case" in refused(*folders, cases=[])[0]
    assert "did you mean 'official'" in refused(*folders, empty="offical")[0]


def test_background_only_has_no_classes(tmp_path):
    for folder in "pl":
        write(tmp_path / folder, "a.nii.gz", np.zeros((3, 3, 3)))
    assert "background only" in refused(tmp_path / "p", tmp_path / "l")[0]


def test_failed_write_leaves_the_old_file(folders, tmp_path, monkeypatch):
    evaluate(*folders, output=tmp_path)
    before = (tmp_path / "scores.csv").read_bytes()
    write(folders[0], "b.nii.gz", blocks(2))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert "No space left" in refused(*folders, output=tmp_path)[0]
    assert (tmp_path / "scores.csv").read_bytes() == before
