"""What the names of files and dataset.json tell, and what they must not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from tiny import tiny_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tiny_dataset(tmp_path / "data", cases=4, labelled=2, shape=(4, 4, 4), channels=2)


def _edit(root: Path, **entries: Any) -> None:
    path = root / "dataset.json"
    content = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def _problems(root: Path, **arguments: Any) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        open_dataset(root, **arguments)
    return caught.value.problems


def test_a_folder_is_read_as_it_is(root: Path) -> None:
    dataset = open_dataset(root)
    assert (dataset.name, dataset.channels) == ("Tiny", ("channel0", "channel1"))
    assert (dataset.class_names, dataset.file_ending) == (("background", "class1", "class2"), ".nii.gz")
    assert list(dataset.cases) == ["case_000", "case_001", "case_002", "case_003"]
    assert [case.label is not None for case in dataset.cases.values()] == [True, True, False, False]
    case = dataset.cases["case_001"]
    assert case.images == (root / "imagesTr/case_001_0000.nii.gz", root / "imagesTr/case_001_0001.nii.gz")
    assert (case.label, case.patient) == (root / "labelsTr/case_001.nii.gz", "case_001")


def test_images_in_the_unlabelled_folder_are_unlabelled_whatever_lies_among_the_labels(root: Path) -> None:
    (root / "imagesUn").mkdir()
    for file in (root / "imagesTr").glob("case_001_*"):
        file.rename(root / "imagesUn" / file.name)
    dataset = open_dataset(root)
    assert list(dataset.cases) == ["case_000", "case_001", "case_002", "case_003"]
    assert dataset.cases["case_001"].label is None
    assert dataset.cases["case_001"].images[0].parent.name == "imagesUn"


def test_classes_are_ordered_by_their_value(root: Path) -> None:
    _edit(root, labels={"b": 2, "nothing": 0, "a": 1})
    assert open_dataset(root).class_names == ("nothing", "a", "b")


def test_name_defaults_to_the_folder_and_other_files_do_not_disturb(root: Path) -> None:
    _edit(root, name=None)
    for name in ("imagesTr/.DS_Store", "imagesTr/._case_000_0000.nii.gz", "labelsTr/notes.txt"):
        (root / name).touch()
    dataset = open_dataset(root)
    assert dataset.name == "data"
    assert len(dataset.cases) == 4


def test_uncompressed_datasets_are_read(tmp_path: Path) -> None:
    root = tiny_dataset(tmp_path, cases=1, labelled=1, shape=(4, 4, 4))
    _edit(root, file_ending=".nii")
    for folder in ("imagesTr", "labelsTr"):
        for file in (root / folder).iterdir():
            file.rename(file.with_suffix(""))
    (case,) = open_dataset(root).cases.values()
    assert case.label == root / "labelsTr/case_000.nii"


def test_no_folder_and_no_json(tmp_path: Path) -> None:
    assert "expected a dataset folder" in _problems(tmp_path / "none")[0]
    assert "dataset.json" in _problems(tmp_path)[0]
    for content, words in (("{", "no valid JSON"), ("[1]", "came list"), ("[" * 100_000, "no valid JSON")):
        (tmp_path / "dataset.json").write_text(content)
        assert words in _problems(tmp_path)[0]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"channel_names": None}, "channel_names: expected names by channel number"),
        ({"channel_names": {"0": "a", "2": "b"}}, "expected the channel numbers 0, 1, came ['0', '2']"),
        ({"labels": None}, "labels: expected label values by class name"),
        ({"labels": {"background": 0, "a": 2}}, "expected the consecutive values 0 (background), 1"),
        ({"labels": {"a": 1, "b": 2}}, "expected the consecutive values 0"),
        ({"labels": {"a": 0, "b": 1, "c": 1}}, "came [0, 1, 1]"),
        ({"labels": {"background": 0}}, "at least two"),
        ({"labels": {f"c{i}": i for i in range(257)}}, "at most 256"),
        ({"labels": {"0": "background", "1": "a"}}, "put the name first"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, "regions are not supported"),
        ({"labels": {"background": 0, "a": True}}, "one whole number per class"),
        ({"labels": {"background": 0, "a": 1, "ignore": 2}}, "'ignore' label, which is not supported"),
        ({"file_ending": None}, "file_ending: expected one of .nii.gz, .nii, .nrrd"),
        ({"file_ending": ".gif"}, """came '.gif': write "file_ending": ".nii.gz", as the files in imagesTr have it"""),
        ({"spacing": [1, 2]}, "spacing: expected three voxel sides in mm, as [0.5, 0.5, 3.0], came [1, 2]"),
        ({"spacing": [1, 2, 0]}, "spacing: expected three voxel sides"),
        ({"spacing": "1,2,3"}, "spacing: expected three voxel sides"),
        ({"dataset": [1]}, "dataset: expected files by case id"),
        ({"dataset": {"a": {"label": "x.nii.gz"}}}, "'a': expected"),
    ],
)
def test_wrong_entries_are_told_with_what_was_expected(root: Path, entries: dict[str, Any], words: str) -> None:
    _edit(root, **entries)
    (problem,) = _problems(root)
    assert problem.startswith(f"{root / 'dataset.json'}: ")
    assert words in problem


@pytest.mark.parametrize(
    "entries",
    [
        {"name": "../elsewhere"},
        {"name": "/etc"},
        {"name": "a/b"},
        {"name": "C:\\x"},
        {"file_ending": "/../../x.nii.gz"},
        {"labels": {"background": 0, "../../x": 1}},
        {"channel_names": {"0": "/etc/passwd", "1": "b"}},
        {"dataset": {"a": {"images": ["../secret_0000.nii.gz", "b"]}}},
        {"dataset": {"a": {"images": ["/secret_0000.nii.gz", "b"]}}},
        {"dataset": {"a": {"images": ["a\\..\\..\\b", "b"]}}},
        {"dataset": {"a": {"images": ["a", "b"], "label": "../x.nii.gz"}}},
        {"dataset": {"../a": {"images": ["a", "b"]}}},
        {"dataset": {"a": {"images": ["a" * 300, "b"]}}},
    ],
)
def test_nothing_in_the_description_leads_out_of_the_folder(root: Path, entries: dict[str, Any]) -> None:
    _edit(root, **entries)
    (problem,) = _problems(root)
    assert "expected" in problem
    assert "came" in problem


def test_all_problems_are_told_together(root: Path) -> None:
    _edit(root, labels={}, channel_names={}, file_ending=".gif")
    assert len(_problems(root)) == 3


def test_cases_may_be_listed_in_the_description(root: Path) -> None:
    (root / "scans").mkdir()
    shutil.move(root / "imagesTr/case_000_0000.nii.gz", root / "scans/first.nii.gz")
    shutil.move(root / "imagesTr/case_000_0001.nii.gz", root / "scans/second.nii.gz")
    images = ["scans/first.nii.gz", "scans/second.nii.gz"]
    _edit(root, dataset={"one": {"images": images, "label": "labelsTr/case_000.nii.gz"}, "two": {"images": images}})
    dataset = open_dataset(root)
    assert dataset.cases["one"].images == (root / images[0], root / images[1])
    assert dataset.cases["one"].label == root / "labelsTr/case_000.nii.gz"
    assert dataset.cases["two"].label is None
    _edit(root, dataset={"one": {"images": [images[0]]}, "two": {"images": [*images[:1], "scans/none.nii.gz"]}})
    problems = _problems(root)
    assert len(problems) == 2
    assert "expected 2 image file(s), one per channel, came 1" in problems[0]
    assert "none.nii.gz: expected a file of case 'two', found none" in problems[1]


def test_missing_and_surplus_channels(root: Path) -> None:
    (root / "imagesTr/case_002_0000.nii.gz").unlink()
    (root / "imagesTr/case_003_0001.nii.gz").rename(root / "imagesTr/case_003_0002.nii.gz")
    problems = _problems(root)
    assert len(problems) == 3
    assert "case_002_0000.nii.gz: expected channel 0 (channel0) of case 'case_002', found none" in problems[0]
    assert "case_003_0001.nii.gz: expected channel 1" in problems[1]
    assert "case_003_0002.nii.gz: expected 2 channel(s) as in dataset.json, came channel 2" in problems[2]


def test_names_and_endings_that_would_be_missed_silently(root: Path) -> None:
    (root / "imagesTr/case_000_0000.nii.gz").rename(root / "imagesTr/case_000.nii.gz")
    (root / "labelsTr/case_001.nii.gz").rename(root / "labelsTr/case_001.nii")
    problems = "\n".join(_problems(root))
    assert "case_000.nii.gz: expected a name like CASE_0000.nii.gz" in problems
    assert "case_001.nii: expected the ending .nii.gz" in problems


def test_one_case_in_both_image_folders_and_no_case_at_all(root: Path) -> None:
    shutil.copytree(root / "imagesTr", root / "imagesUn")
    assert "case 'case_000' is in imagesTr as well" in _problems(root)[0]
    shutil.rmtree(root / "imagesUn")
    shutil.rmtree(root / "imagesTr")
    assert "expected images named CASE_0000.nii.gz, found none" in _problems(root)[0]


def test_patients_from_a_file(root: Path) -> None:
    (root / "patients.json").write_text(json.dumps({"case_000": "p", "case_001": "p", "case_002": 7}))
    assert [case.patient for case in open_dataset(root).cases.values()] == ["p", "p", "7", "case_003"]
    (root / "patients.json").write_text(json.dumps({"case_00": "p"}))
    (problem,) = _problems(root)
    assert "unknown case 'case_00': did you mean 'case_00" in problem
    (root / "patients.json").write_text("nothing")
    assert "expected patients by case id" in _problems(root)[0]


def test_patients_from_a_pattern(root: Path) -> None:
    (root / "patients.json").write_text(json.dumps({"case_000": "p"}))
    dataset = open_dataset(root, r"case_0(\d)")
    assert {case.patient for case in dataset.cases.values()} == {"0"}
    assert "expected a regular expression" in _problems(root, patient_pattern="(")[0]
    assert "expected a group" in _problems(root, patient_pattern="case")[0]
    problems = _problems(root, patient_pattern="(case_000)")
    assert len(problems) == 3
    assert "finds no patient in case 'case_001'" in problems[0]
