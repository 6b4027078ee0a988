"""The command line as a user meets it: the whole job, and every kind of wrong input with one clear line each."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from commands import semiseg
from tiny import tiny_dataset

SMALL = (
    "--set=network.options={filters: [4, 8]}",
    "--set=batch.patch=[16, 16, 16]",
    "--set=accelerator=cpu",
    "--steps=4",
)


def refused(*arguments: object) -> list[str]:
    """Problems that the command names; it must end with status 2 and without a traceback."""
    answer = semiseg(*arguments)
    assert answer.returncode == 2, answer
    assert "Traceback" not in answer.stderr
    return [line.removeprefix("error: ") for line in answer.stderr.splitlines() if line.startswith("error: ")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny_dataset(tmp_path / "data", cases=5, labelled=4)


def test_a_dataset_is_made_of_two_folders(data: Path, tmp_path: Path) -> None:
    folders = (data / "imagesTr", "--labels", data / "labelsTr", "-o", tmp_path / "made", "--workers", 1)
    assert "--spacing: expected three numbers" in refused("init", *folders, "--spacing", "1,2")[0]
    assert "--spacing: expected positive numbers" in refused("init", *folders, "--spacing", "1,2,0")[0]
    made = semiseg("init", *folders, "--classes", "left, right")
    assert made.returncode == 0, made.stderr
    for line in ("5 cases, 4 with a label", "classes: 0 background, 1 left, 2 right", "No errors.", "Next: semiseg"):
        assert line in made.stdout
    again = semiseg("init", *folders, "--classes", "one,two")
    assert "classes: 0 background, 1 one, 2 two" in again.stdout


@pytest.mark.slow
def test_from_a_folder_to_scores(data: Path, tmp_path: Path) -> None:
    assert "No errors" in semiseg("check", data).stdout
    assert "5 cases are ready" in semiseg("prepare", data).stdout
    run = tmp_path / "run"
    trained = semiseg("train", data, "-m", "dhc", "-n", 2, "--test", 2, "-o", run, *SMALL)
    assert f"semiseg predict {run}" in trained.stdout
    assert "2 scans labelled" in semiseg("predict", run).stdout
    first = semiseg("evaluate", run).stdout
    assert "label budget: 2 (training) + 0 (selection)" in first
    assert "test labels opened 1 time(s)" in first
    assert "test labels opened 2 time(s)" in semiseg("evaluate", run).stdout
    assert "Q = " in semiseg("evaluate", run, "--matching").stdout
    assert json.loads((run / "test_opened.json").read_text())["times"] == 2
    scores = json.loads((run / "scores.json").read_text())
    assert scores["cases"] == 2
    assert scores["provenance"]["protocol"] == "honest"
    scans = tmp_path / "scans"
    scans.mkdir()
    shutil.copy(data / "imagesTr" / "case_004_0000.nii.gz", scans / "new_0000.nii.gz")
    assert "1 scans labelled" in semiseg("predict", run, scans, "-o", tmp_path / "out").stdout
    assert nib.load(tmp_path / "out" / "new.nii.gz").shape == nib.load(scans / "new_0000.nii.gz").shape


def _edit(path: Path, change: object, dtype: type = np.float32) -> None:
    image = nib.load(path)
    array = np.asarray(image.dataobj).astype(dtype)
    array = change(array)  # type: ignore[operator]
    nib.save(nib.Nifti1Image(array, image.affine), path)


def _spoil(array: np.ndarray, value: float) -> np.ndarray:
    array[1, 2, 3] = value
    return array


def test_all_problems_of_the_data_at_once(data: Path, tmp_path: Path) -> None:
    image, label = data / "imagesTr", data / "labelsTr"
    _edit(image / "case_000_0000.nii.gz", lambda a: _spoil(a, np.nan))
    _edit(label / "case_001.nii.gz", lambda a: _spoil(a, 9), np.uint8)
    _edit(label / "case_002.nii.gz", lambda a: a[:-1], np.uint8)
    whole = (image / "case_004_0000.nii.gz").read_bytes()
    (image / "case_004_0000.nii.gz").write_bytes(whole[: len(whole) // 2])
    for command in (("check", data), ("prepare", data), ("train", data, "-n", 2, "-o", tmp_path / "run")):
        problems = refused(*command)
        assert len(problems) == 4, problems
        for case in ("case_000", "case_001", "case_002", "case_004"):
            assert any(case in problem for problem in problems)
    assert not (tmp_path / "run").exists()
    assert not list(data.glob("prepared/store/*"))


def test_float_labels_are_refused(data: Path) -> None:
    _edit(data / "labelsTr" / "case_000.nii.gz", lambda a: a * 0.99)
    assert any("case_000" in problem and "whole numbers" in problem for problem in refused("check", data))


def test_a_class_without_a_voxel_and_no_label_at_all(data: Path) -> None:
    for path in (data / "labelsTr").iterdir():
        _edit(path, lambda a: np.where(a == 2, 0, a), np.uint8)
    assert any("class" in problem for problem in refused("check", data))
    shutil.rmtree(data / "labelsTr")
    assert any("label" in problem for problem in refused("check", data))


def test_wrong_splits(data: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"labelled": ["case_000", "case_001"], "test": ["case_001", "case_009"]}))
    problems = refused("train", data, "--split", split, "-o", tmp_path / "run", *SMALL)
    assert any("case_001" in problem for problem in problems)
    assert any("case_009" in problem for problem in problems)
    split.write_text(json.dumps({"labelled": [], "test": ["case_001"]}))
    assert "labelled" in refused("train", data, "--split", split, "-o", tmp_path / "run", *SMALL)[0]
    assert "9" in " ".join(refused("train", data, "-n", 9, "-o", tmp_path / "run", *SMALL))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "-m", "mcid"), "did you mean 'micd'?"),
        (("train", "--set", "options.mask_rato=0.2"), "did you mean 'mask_ratio'?"),
        (("train", "--network", "vnett"), "did you mean 'vnet'?"),
        (("train", "--set", "network.options={filtres: [4]}"), "did you mean 'filters'?"),
        (("train", "--set", "batch.patch=[15, 16, 16]"), "take [16, 16, 16]"),
        (("train", "--set", "batch.patch=[16, 16]"), "expected 3 sides"),
        (("methods", "micdd"), "did you mean 'micd'?"),
        (("presets", "acdcc"), "did you mean 'acdc'?"),
        (("train", "--preset", "lla"), "did you mean 'la'?"),
        (("train", "--preset", "la", "--protocol", "papr"), "'honest' or 'paper'"),
    ],
)
def test_wrong_names_come_with_the_right_ones(
    data: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    where = (data, "-o", tmp_path / "run", "-n", "2") if arguments[0] == "train" else ()
    assert any(words in problem for problem in refused(*arguments, *where))


def test_presets_are_shown_and_a_run_tells_where_it_leaves_the_paper(data: Path, tmp_path: Path) -> None:
    listed = semiseg("presets").stdout
    assert all(name in listed for name in ("la", "acdc", "lung_tumor"))
    assert "stride:" in semiseg("presets", "la").stdout
    small = ("--set=network.options.filters=2", "--set=batch.patch=[16, 16, 16]", "--set=window.stride=[8, 8, 8]")
    run = tmp_path / "run"
    answer = semiseg(
        *("train", data, "--preset", "la", "-m", "lefed", "-n", 2, "--test", 1, "--steps", 2, "-o", run),
        *(*small, "--set=accelerator=cpu"),
    )
    assert answer.returncode == 0, answer
    assert "preset la, method lefed, protocol honest; it differs from the paper in" in answer.stdout
    assert "steps: 2; the paper: 15000" in answer.stdout
    assert "select: last; the paper: best on the test cases" in answer.stdout


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    for command in ("check", "prepare", "train"):
        assert str(tmp_path / "nothing") in refused(command, tmp_path / "nothing")[0]
    assert "no run folder" in refused("predict", tmp_path)[0]
    assert refused("evaluate", tmp_path / "a", tmp_path / "b")
    assert "no run folder" in refused("evaluate", tmp_path, "--matching")[0]
    assert "a run folder alone" in refused("evaluate", tmp_path, tmp_path, "--matching")[0]
    assert "--output" not in refused("train")[0]


def test_unwritable_folders(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "cannot be written" in refused("prepare", data, "--prepared", tmp_path / "file" / "x")[0]
    assert "cannot be written" in refused("train", data, "-n", 2, "-o", tmp_path / "file" / "x", *SMALL)[0]


@pytest.mark.parametrize("size", [1_000, 20_000])
def test_a_full_disk_is_told_and_what_was_done_is_kept(data: Path, tmp_path: Path, size: int) -> None:
    semiseg("prepare", data)
    command = ("train", data, "-n", 2, "-m", "supervised", "-o", tmp_path / "run", *SMALL)
    answer = semiseg(*command, largest_file=size)
    assert answer.returncode == 2, answer
    assert "cannot be written" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not list(tmp_path.rglob("*.part"))
    assert semiseg(*command).returncode == 0


def test_help_is_light() -> None:
    code = "import sys, semiseg.cli; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'pydantic')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
