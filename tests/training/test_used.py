"""A run is continued on the images and labels that it began with, or not at all."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from semiseg.errors import InputError
from semiseg.runs.folder import Run
from semiseg.settings.load import load_config
from semiseg.settings.run import RunConfig
from semiseg.training.train import train
from tiny import TINY_RUN, tiny_dataset, write_nifti

SETTINGS = {
    **TINY_RUN,
    "batch": {"patch": [16, 16, 16], "labelled": 1, "unlabelled": 1},
    "steps": 4,
    "checkpoint_every": 1,
    "method": "mean_teacher",
    "labelled": 2,
    "test": 1,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data` of six scans, four with labels, and a finished `run`."""
    root = tmp_path_factory.mktemp("used")
    data = tiny_dataset(root / "data", cases=6, labelled=4, shape=(16, 16, 16), classes=2)
    train(load_config(None, {"data": data, **SETTINGS}), root / "run", show=False)
    return root


@pytest.fixture
def place(root: Path, tmp_path: Path) -> Iterator[Path]:
    """`root`, brought back to what it was after the test."""
    shutil.copytree(root, tmp_path / "kept", symlinks=True)
    yield root
    shutil.rmtree(root)
    shutil.copytree(tmp_path / "kept", root, symlinks=True)


def config(root: Path, **settings: object) -> RunConfig:
    return load_config(None, {"data": root / "data", **SETTINGS, **settings})


def again(root: Path, **settings: object) -> Run:
    return train(config(root, **settings), root / "run", show=False)


def stop_before_the_end(root: Path) -> None:
    for name in ("final", "step_0000004"):
        for path in (root / "run" / "checkpoints").glob(f"{name}.*"):
            path.unlink()


def split(root: Path) -> dict[str, list[str]]:
    return json.loads((root / "run" / "split.json").read_text())


def image(root: Path, case: str) -> Path:
    return root / "data" / "imagesTr" / f"{case}_0000.nii.gz"


def label(root: Path, case: str) -> Path:
    return root / "data" / "labelsTr" / f"{case}.nii.gz"


def move(path: Path) -> None:
    """By three voxels, so that neither size of the scan nor counts of classes change."""
    found = nib.load(path)
    moved = np.roll(np.asarray(found.dataobj), 3, axis=0)
    write_nifti(path, moved, found.affine)


@pytest.mark.parametrize("what", ["images", "labels"])
def test_a_run_is_not_continued_on_changed_images_or_labels_and_names_them(place: Path, what: str) -> None:
    stop_before_the_end(place)
    first, second = split(place)["labelled"]
    move({"images": image, "labels": label}[what](place, second))
    with pytest.raises(InputError, match=rf"{what} changed since: {second}$") as caught:
        again(place)
    assert first not in str(caught.value)
    assert "choose another --output" in str(caught.value)


def test_a_run_is_not_continued_on_changed_unlabelled_images(place: Path) -> None:
    stop_before_the_end(place)
    case = split(place)["unlabelled"][0]
    move(image(place, case))
    with pytest.raises(InputError, match=f"images changed since: {case}$"):
        again(place)


def test_cases_that_were_added_or_removed_are_named(place: Path) -> None:
    stop_before_the_end(place)
    gone = split(place)["unlabelled"][0]
    image(place, gone).unlink()
    label(place, gone).unlink(missing_ok=True)
    other = tiny_dataset(place / "other", cases=1, labelled=0, shape=(16, 16, 16), classes=2, seed=9)
    shutil.copy(other / "imagesTr" / "case_000_0000.nii.gz", image(place, "case_009"))
    with pytest.raises(InputError, match=rf"the split differs: added: case_009; removed: {gone}"):
        again(place)


def test_what_the_run_may_not_see_or_does_not_use_is_neither_kept_nor_asked_for(place: Path) -> None:
    stop_before_the_end(place)
    roles = split(place)
    used = json.loads((place / "run" / "provenance.json").read_text())["used"]
    assert used.keys() == {*roles["labelled"], *roles["unlabelled"]}
    assert {case for case, each in used.items() if each["label"]} == set(roles["labelled"])
    files = {name for each in used.values() for name in each["files"] if "labelsTr" in name}
    assert files == {f"labelsTr/{case}.nii.gz" for case in roles["labelled"]}
    hidden = [case for case in (*roles["unlabelled"], *roles["test"]) if label(place, case).exists()]
    assert len(hidden) == 2
    for case in hidden:
        move(label(place, case))
    move(image(place, roles["test"][0]))
    assert again(place).finished


def test_a_run_without_hashes_is_continued_with_a_line_that_says_so(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop_before_the_end(place)
    path = place / "run" / "provenance.json"
    facts = json.loads(path.read_text())
    del facts["used"], facts["with_label"]
    path.write_text(json.dumps(facts))
    move(label(place, split(place)["labelled"][0]))
    with caplog.at_level(logging.INFO):
        assert again(place).finished
    assert [line for line in caplog.messages if "kept no hashes" in line and "not checked" in line]
    assert again(place).finished


def relabel(place: Path) -> str:
    case = split(place)["labelled"][0]
    move(label(place, case))
    return rf"before labelsTr/{case}\.nii\.gz changed"


def other_image(place: Path) -> str:
    case = split(place)["unlabelled"][0]
    move(image(place, case))
    return rf"before imagesTr/{case}_0000\.nii\.gz changed"


def add(place: Path) -> str:
    for case in ("c7", "c8"):
        shutil.copy(image(place, "case_000"), image(place, case))
    return "without c7, c8"


def label_more(place: Path) -> str:
    shutil.copy(label(place, "case_000"), label(place, "case_005"))
    return "without labels of case_005"


def remove(place: Path) -> str:
    case = split(place)["labelled"][1]
    label(place, case).unlink()
    return rf"with labelsTr/{case}\.nii\.gz, not there any more"


@pytest.mark.parametrize("change", [relabel, other_image, add, label_more, remove])
def test_a_finished_run_tells_in_a_line_what_changed_since(place: Path, change: Callable[[Path], str]) -> None:
    with pytest.raises(InputError, match=change(place)) as caught:
        again(place)
    assert str(caught.value).startswith(f"{place / 'run'}: was trained ")
    assert str(caught.value).endswith(": choose another --output to train on the data as they are now")
    assert len(str(caught.value).splitlines()) == 1


def test_several_changes_are_in_the_one_line(place: Path) -> None:
    parts = (relabel(place), add(place))
    with pytest.raises(InputError, match=" and ".join(parts)) as caught:
        again(place)
    assert len(str(caught.value).splitlines()) == 1


def test_files_that_were_only_touched_or_are_all_gone_leave_a_run_finished(place: Path) -> None:
    for path in (place / "data").rglob("*.nii.gz"):
        os.utime(path, (1, 1))
    assert again(place).finished
    (place / "data").rename(place / "elsewhere")
    assert again(place).finished


def test_a_split_file_that_changed_is_told_of_too(place: Path) -> None:
    roles = {role: cases for role, cases in split(place).items() if role != "note"}
    (place / "split.json").write_text(json.dumps(roles))
    settings = {"labelled": None, "test": 0, "split": place / "split.json"}
    train(config(place, **settings), place / "by_file", show=False)
    shutil.copy(image(place, "case_000"), image(place, "c7"))  # in none of the roles that the file names
    assert train(config(place, **settings), place / "by_file", show=False).finished
    roles["labelled"], roles["test"] = [*roles["labelled"], *roles["test"]], []
    (place / "split.json").write_text(json.dumps(roles))
    with pytest.raises(InputError, match=r"was trained before .*split\.json changed: choose"):
        train(config(place, **settings), place / "by_file", show=False)
