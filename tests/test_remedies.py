"""Messages whose remedy is followed: the command or entry that they name works."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from commands import semiseg
from semiseg.datasets.dataset import open_dataset
from semiseg.evaluation.evaluate import evaluate
from semiseg.preparing.checks import check
from tiny import tiny_dataset, write_nifti


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tiny_dataset(tmp_path / "the data", cases=4, labelled=3, shape=(8, 8, 8))


def _edit(root: Path, **entries: object) -> None:
    path = root / "dataset.json"
    content = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def _relabel(root: Path, **values: int) -> None:
    """Write other label values, `c2=255` for 255 in the place of 2."""
    for path in (root / "labelsTr").iterdir():
        array = np.asarray(nib.load(path).dataobj)
        changed = array.astype(np.int16)
        for old, new in values.items():
            changed[array == int(old[1:])] = new
        write_nifti(path, changed)


def _done(problem: str, target: Path, **replaced: str) -> Path:
    """Run the command that a message ends in."""
    command = re.search(r"semiseg (?:init|import) .* -o NEW", problem)
    assert command is not None, problem
    words = [target if word == "NEW" else word for word in shlex.split(command[0])[1:]]
    for old, new in replaced.items():
        words = [str(word).replace(old, new) for word in words]
    answer = semiseg(*words)
    assert answer.returncode == 0, answer
    return target


def _only(problems: tuple[str, ...]) -> str:
    (problem,) = problems
    return problem


@pytest.mark.parametrize(
    ("values", "count"), [({"c2": 255}, 3), ({"c1": 7, "c2": 9}, 6), ({"c1": 2, "c2": 3}, 3)], ids=str
)
def test_values_without_a_class_become_the_classes_without_voxels_by_the_command_of_the_message(
    root: Path, tmp_path: Path, values: dict[str, int], count: int
) -> None:
    path = root / "labelsTr" / "case_000.nii.gz"
    before = np.asarray(nib.load(path).dataobj)
    _relabel(root, **values)
    errors = check(root).errors
    assert len(errors) == count, errors
    made = _done(errors[0], tmp_path / "new")
    assert open_dataset(made).class_names == ("background", "class1", "class2")
    np.testing.assert_array_equal(nib.load(made / "labelsTr" / path.name).dataobj, before)


def test_a_value_beside_all_classes_is_named_in_the_command_of_the_message(root: Path, tmp_path: Path) -> None:
    path = next((root / "labelsTr").iterdir())
    array = np.asarray(nib.load(path).dataobj).copy()
    array[0, 0, :2] = 200
    write_nifti(path, array)
    made = _done(_only(check(root).errors), tmp_path / "new", NAME200="vessel")
    assert open_dataset(made).class_names == ("background", "class1", "class2", "vessel")


def test_the_next_value_is_named_in_the_description(root: Path) -> None:
    _edit(root, labels={"background": 0, "class1": 1})
    problem = check(root).errors[0]
    assert 'name the class in dataset.json, as "NAME": 2' in problem
    _edit(root, labels={"background": 0, "class1": 1, "NAME": 2})
    assert check(root).errors == ()


def test_values_with_a_gap_in_the_description_are_renumbered_by_the_command_of_the_message(
    root: Path, tmp_path: Path
) -> None:
    _relabel(root, c1=2, c2=4)
    _edit(root, labels={"background": 0, "left lobe": 2, "right": 4})
    made = _done(_only(check(root).errors), tmp_path / "new")
    assert open_dataset(made).class_names == ("background", "left lobe", "right")
    assert set(np.unique(nib.load(next((made / "labelsTr").iterdir())).dataobj)) == {0, 1, 2}


def test_a_description_without_background_is_told_to_add_it(root: Path) -> None:
    _edit(root, labels={"class1": 1, "class2": 2})
    assert 'add "background": 0' in _only(check(root).errors)


def test_a_description_of_version_1_is_brought_in_by_the_command_of_the_message(root: Path, tmp_path: Path) -> None:
    old = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "the spleen"}}
    (root / "dataset.json").write_text(json.dumps({"name": "Old", **old, "training": [], "test": []}))
    problem = _only(check(root).errors)
    assert "nnU-Net v1 or the Decathlon" in problem
    made = open_dataset(_done(problem, tmp_path / "new"))
    assert made.class_names == ("background", "liver", "the spleen")
    assert (len(made.cases), sum(case.label is not None for case in made.cases.values())) == (4, 3)


def test_a_task_of_the_decathlon_with_several_channels_is_imported_by_the_command_of_the_message(
    root: Path, tmp_path: Path
) -> None:
    training = []
    for path in sorted((root / "imagesTr").iterdir()):
        name = path.name.replace("_0000", "")
        array = np.asarray(nib.load(path).dataobj)
        path.unlink()
        write_nifti(root / "imagesTr" / name, np.stack([array, array], axis=-1))
        if (root / "labelsTr" / name).is_file():
            training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    content = {"name": "Task", "modality": {"0": "T2", "1": "ADC"}, "labels": {"0": "background", "1": "a", "2": "b"}}
    (root / "dataset.json").write_text(json.dumps({**content, "training": training, "test": []}))
    made = open_dataset(_done(_only(check(root).errors), tmp_path / "new"))
    assert made.channels == ("T2", "ADC")
    assert len(made.cases) == 3


@pytest.mark.parametrize(
    ("entry", "remedy"),
    [(None, 'write "file_ending": ".nii.gz", as the files in imagesTr have it'), ("nii.gz", "put a dot before it")],
)
def test_an_ending_that_is_missing_or_lacks_its_dot_is_told_as_it_should_be(
    root: Path, entry: str | None, remedy: str
) -> None:
    _edit(root, file_ending=entry)
    problem = _only(check(root).errors)
    assert remedy in problem
    assert "convert" not in problem


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_a_description_in_another_encoding_is_read_or_told_to_be(root: Path, encoding: str) -> None:
    _edit(root, labels={"background": 0, "lésion": 1, "class2": 2})
    path = root / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False), encoding=encoding)
    errors = check(root).errors
    if encoding == "utf-8-sig":
        assert errors == ()
    else:
        assert "save it as UTF-8" in _only(errors)


def test_a_class_is_not_missed_where_labels_could_not_be_read(root: Path) -> None:
    for path in (root / "labelsTr").iterdir():
        write_nifti(path, np.asarray(nib.load(path).dataobj) * 0.7)
    errors = check(root).errors
    assert len(errors) == 3
    assert all("expected whole numbers" in error for error in errors)


def test_a_part_of_a_folder_is_scored(root: Path, tmp_path: Path) -> None:
    predicted = tmp_path / "predicted"
    predicted.mkdir()
    for case in ("case_000", "case_001"):
        (predicted / f"{case}.nii.gz").write_bytes((root / "labelsTr" / f"{case}.nii.gz").read_bytes())
    refused = semiseg("evaluate", predicted, root / "labelsTr")
    assert refused.returncode == 2
    assert "name the cases to score with --cases" in refused.stderr
    answer = semiseg("evaluate", predicted, root / "labelsTr", "--cases", "case_000", "case_001", "-o", tmp_path / "o")
    assert answer.returncode == 0, answer.stderr
    assert json.loads((tmp_path / "o" / "scores.json").read_text())["cases"] == 2


@pytest.mark.parametrize("name", ["case_001_pred.nii.gz", "case_001_0000.nii.gz", "pred_case_001.nii.gz"])
def test_a_prediction_of_another_name_is_found(root: Path, tmp_path: Path, name: str) -> None:
    predicted = tmp_path / "predicted"
    predicted.mkdir()
    for path in (root / "labelsTr").iterdir():
        (predicted / (name if path.name == "case_001.nii.gz" else path.name)).write_bytes(path.read_bytes())
    scores = evaluate(predicted, root / "labelsTr")
    assert "case_001" in {row.case for row in scores.rows}
    assert scores.mean("dice") == 1


def test_a_label_with_the_number_of_a_channel_is_told_to_be_renamed(root: Path) -> None:
    (root / "labelsTr" / "case_001.nii.gz").rename(root / "labelsTr" / "case_001_0000.nii.gz")
    assert any("rename it to case_001.nii.gz" in warning for warning in check(root).warnings)


def test_values_beyond_255_are_numbered_by_the_command_that_is_named(root: Path, tmp_path: Path) -> None:
    _relabel(root, c1=500, c2=600)
    assert "semiseg init does with --classes VALUE=NAME" in check(root).errors[0]
    folders = ("init", root / "imagesTr", "--labels", root / "labelsTr")
    answer = semiseg(*folders, "--classes", "500=a,600=b", "-o", tmp_path / "new")
    assert answer.returncode == 0, answer.stderr
    assert open_dataset(tmp_path / "new").class_names == ("background", "a", "b")


def test_values_below_0_are_to_be_relabelled_and_never_to_be_named(root: Path, tmp_path: Path) -> None:
    _relabel(root, c2=-1)
    assert "values below 0: relabel these voxels first" in check(root).errors[0]
    answer = semiseg("init", root / "imagesTr", "--labels", root / "labelsTr", "-o", tmp_path / "new")
    assert answer.returncode == 2
    assert "came -1" in answer.stderr
    assert "relabel these voxels, as 0 if they are background" in answer.stderr
    assert "=NAME" not in answer.stderr


def test_unlabelled_images_of_a_folder_of_their_own_are_not_forgotten(root: Path) -> None:
    (root / "imagesUn").mkdir()
    _edit(root, labels={"background": 0, "a": 2, "b": 4})
    assert "-o NEW, and copy imagesUn into NEW" in _only(check(root).errors)
