"""Which prediction is scored against which reference label file."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import semiseg
from semiseg.errors import InputError
from semiseg.evaluation.pairs import pair_up


def write(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        array = np.zeros((6, 5, 4), np.uint8)
        array[: 2 + number] = 1
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{name}.nii.gz")
    return folder


def named(pairs):
    return {pair.case: pair.prediction.name.removesuffix(".nii.gz") for pair in pairs}


def test_names_that_differ_are_matched_as_init_does(tmp_path):
    predictions = write(tmp_path / "p", "Pat_006_T1w", "Pat_007_T1w")
    labels = write(tmp_path / "l", "Pat_006_seg", "Pat_007_seg")
    pairs, left = pair_up(predictions, labels)
    assert named(pairs) == {"Pat_006_seg": "Pat_006_T1w", "Pat_007_seg": "Pat_007_T1w"}
    assert left == 0
    scores = semiseg.evaluate(predictions, labels)
    assert scores.mean("dice") == 1
    assert scores.provenance["matched"] == {"Pat_006_seg": "Pat_006_T1w.nii.gz", "Pat_007_seg": "Pat_007_T1w.nii.gz"}


def test_what_belongs_to_two_is_not_guessed(tmp_path):
    predictions = write(tmp_path / "p", "Pat_006_T1w", "Pat_007_T1w")
    labels = write(tmp_path / "l", "Pat_006_seg", "Pat_006_gt")
    with pytest.raises(InputError, match="no prediction for") as caught:
        pair_up(predictions, labels)
    assert len(caught.value.problems) == 2
    with pytest.raises(InputError, match=r"expected one file of case Pat, came .*006.*007"):
        pair_up(predictions, labels, pattern="(Pat)")


def test_equal_names_belong_together_whatever_else_is_there(tmp_path):
    predictions = write(tmp_path / "p", "a_1", "a_2", "b_1")
    labels = write(tmp_path / "l", "a_1", "a_2")
    pairs, left = pair_up(predictions, labels)
    assert named(pairs) == {"a_1": "a_1", "a_2": "a_2"}
    assert left == 1


def test_a_missing_prediction_is_told_with_what_is_there_and_what_to_do(tmp_path):
    predictions = write(tmp_path / "p", "first", "x")
    labels = write(tmp_path / "l", "first", "second")
    with pytest.raises(InputError, match=r"case second: no prediction .*--cases.*--pattern.*x.nii.gz"):
        pair_up(predictions, labels)
    assert named(pair_up(predictions, labels, cases=["first"])[0]) == {"first": "first"}


def test_a_pattern_says_where_the_case_is(tmp_path):
    predictions = write(tmp_path / "p", "run3_case12", "run3_case13")
    labels = write(tmp_path / "l", "12_of_rater_7", "13_of_rater_7")
    pairs, _ = pair_up(predictions, labels, pattern=r"(1\d)")
    assert named(pairs) == {"12_of_rater_7": "run3_case12", "13_of_rater_7": "run3_case13"}


def test_one_file_is_scored_against_another(tmp_path):
    write(tmp_path / "p", "mine")
    write(tmp_path / "l", "truth")
    scores = semiseg.evaluate(tmp_path / "p" / "mine.nii.gz", tmp_path / "l" / "truth.nii.gz")
    assert [row.case for row in scores.rows] == ["truth"]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["mine.nii.gz", "truth.nii.gz"]


def test_swapped_folders_are_noticed(tmp_path):
    predictions, labels = write(tmp_path / "p", "a"), write(tmp_path / "l", "a")
    (predictions / "inference.json").write_text("{}")
    with pytest.raises(InputError, match="swapped"):
        semiseg.evaluate(labels, predictions)


def test_classes_have_the_names_of_the_model_that_predicted_them(tmp_path):
    predictions, labels = write(tmp_path / "p", "a"), write(tmp_path / "l", "a")
    (predictions / "inference.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1}}))
    assert semiseg.evaluate(predictions, labels).class_names == ("background", "liver")


def test_predictions_alone_ask_for_the_labels(tmp_path):
    with pytest.raises(InputError, match=r"semiseg evaluate .* LABELS"):
        semiseg.evaluate(write(tmp_path / "p", "a"))
