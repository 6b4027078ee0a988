"""From two folders of anything to a dataset folder, and what is never guessed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import semiseg
from scans.foreign import affine_of, directions, voxels, write_dicom, write_sitk
from semiseg.conversion.init import Initialised
from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from semiseg.scans.readers import read_image, read_label
from tiny import write_nifti

AFFINE = affine_of(list(directions())[9])
SHAPE = (7, 6, 5)


def _image(number: int = 0) -> np.ndarray:
    return (voxels(SHAPE) + number).astype(np.int16)


def _label(values: Sequence[int] = (0, 1, 2), dtype: type = np.uint8) -> np.ndarray:
    return np.array(values, dtype=dtype)[voxels(SHAPE) % len(values)]


def _write(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".nrrd", ".mha"):
        return write_sitk(path, array, AFFINE)
    if path.suffix == ".npy":
        np.save(path, array)
        return path
    return write_nifti(path, array, AFFINE)


def _scans(root: Path, images: Sequence[str], labels: Sequence[str], values: Sequence[int] = (0, 1, 2)) -> None:
    for number, name in enumerate(images):
        _write(root / "images" / name, _image(number))
    for name in labels:
        _write(root / "labels" / name, _label(values))


def _init(root: Path, **options: Any) -> Initialised:
    return semiseg.init_dataset(root / "images", root / "labels", root / "data", workers=1, **options)


def _problems(root: Path, **options: Any) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        _init(root, **options)
    assert not (root / "data" / "dataset.json").exists()
    assert all("\n" not in problem for problem in caught.value.problems)
    return caught.value.problems


def _matched(root: Path) -> dict[str, bool]:
    return {case.id: case.label is not None for case in open_dataset(root / "data").cases.values()}


@pytest.mark.parametrize(
    ("images", "labels", "cases"),
    [
        (["Case_01.nii.gz", "Case_02.nii.gz"], ["case-01_seg.nrrd"], {"Case_01": True, "Case_02": False}),
        (["img0001.nii.gz", "img0002.nii.gz"], ["label0002.nii.gz"], {"img0001": False, "img0002": True}),
        (["a_0000.nii.gz", "b_0000.nii.gz"], ["a.nii.gz", "b.nii.gz"], {"a": True, "b": True}),
        (["p1/lgemri.nrrd", "p2/lgemri.nrrd"], ["p1/laendo.nrrd"], {"p1": True, "p2": False}),
        (["s_1.mha", "s_1_2.mha", "s_3.mha"], ["s_1_2_b.mha", "s_1.mha"], {"s_1": True, "s_1_2": True, "s_3": False}),
        (["c1.mha", "c2.mha"], ["c2_t1_seg.mha", "c1_t1_seg.mha"], {"c1": True, "c2": True}),
        (["pat-1/image.nii.gz", "pat-2/image.nii.gz"], ["pat_1.nii.gz"], {"pat-1": True, "pat-2": False}),
        (["x_0001.nii.gz", "x_0002.nii.gz"], ["x_0001_mask.nii.gz"], {"x_0001": True, "x_0002": False}),
        (["x_0000.nii.gz", "x_0001.nii.gz"], ["x_0000.nii.gz"], {"x_0000": True, "x_0001": False}),
        (["x/B_1/B_1_t1.nii.gz", "x/B_2/B_2_t1.nii.gz"], ["1.nii.gz"], {"B_1": True, "B_2": False}),
        (["only.nii.gz"], ["only_seg.nii.gz"], {"only": True}),
        (["A/scan one.npy", "B/scan one.npy"], ["A/mask.npy"], {"A": True, "B": False}),
    ],
)  # fmt: skip
def test_names_that_match(tmp_path: Path, images: list[str], labels: list[str], cases: dict[str, bool]) -> None:
    _scans(tmp_path, images, labels)
    made = _init(tmp_path)
    assert made.report.errors == ()
    assert _matched(tmp_path) == cases


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (["a_1.nii.gz", "a_2.nii.gz"], ["a_3.nii.gz"], ["a_3.nii.gz: expected an image that", "--pattern"]),
        (["a_1.nii.gz", "a_2.nii.gz"], ["a_1_seg.nii.gz", "a-1.nii.gz"], ["case a_1: expected one label, came"]),
        (["1_2.nii.gz", "2_1.nii.gz"], ["seg_1_2_x.nii.gz"], ["expected an image that belongs to it"]),
        (["a_01.nii.gz", "a_02.nii.gz"], ["a_1.nii.gz"], ["a_1.nii.gz: expected an image"]),
        (["a_1.nii.gz", "b_1.nii.gz"], ["1.nii.gz"], ["expected an image|expected one image"]),
        (["a b.nii.gz", "a+b.nii.gz", "c.nii.gz"], ["c.nii.gz"], ["expected one scan of this name, came a b, a+b"]),
    ],
)  # fmt: skip
def test_names_that_are_not_certain_are_refused(
    tmp_path: Path, images: list[str], labels: list[str], words: list[str]
) -> None:
    _scans(tmp_path, images, labels)
    (problem,) = _problems(tmp_path)
    for word in words:
        assert any(part in problem for part in word.split("|"))


def test_a_pattern_says_where_the_case_is(tmp_path: Path) -> None:
    _scans(tmp_path, ["x1_p5.nii.gz", "x1_p6.nii.gz"], ["q_p6_1.nii.gz", "q_p5_1.nii.gz"])
    _init(tmp_path, pattern=r"(p\d)")
    assert _matched(tmp_path) == {"p5": True, "p6": True}
    other = tmp_path / "other"
    _scans(other, ["a.nii.gz"], ["b.nii.gz"])
    assert len(_problems(other, pattern=r"(p\d)")) == 1
    assert "expected a group" in _problems(other, pattern="a")[0]
    assert "expected a regular expression" in _problems(other, pattern="(")[0]


def test_all_problems_of_names_are_told_together(tmp_path: Path) -> None:
    _scans(
        tmp_path,
        ["a_1_t1.nii.gz", "a_1_t2.nii.gz", "a_2_t1.nii.gz"],
        ["a_1_seg.nii.gz", "a_1_mask.nii.gz", "a_9.nii.gz"],
    )
    problems = "\n".join(_problems(tmp_path, channels=("t1", "t2")))
    assert "case a_1: expected one label, came" in problems
    assert "a_9.nii.gz: expected an image" in problems
    assert "case a_2: expected 2 channels, found none for t2: add them, or remove the case" in problems


def test_channels_by_number_and_by_name(tmp_path: Path) -> None:
    _scans(tmp_path, [f"{case}_{c:04d}.nii.gz" for case in "ab" for c in range(2)], ["a.nii.gz", "b.nii.gz"])
    _init(tmp_path)
    assert open_dataset(tmp_path / "data").channels == ("channel_0", "channel_1")
    other = tmp_path / "other"
    _scans(other, [f"{case}/{c}.nrrd" for case in ("p1", "p2") for c in ("t2", "flair", "t1", "seg2")], ["p1.nrrd"])
    made = _init(other, channels=("t1", "flair"))
    assert "left out" in made.notes[0]
    dataset = open_dataset(other / "data")
    assert (dataset.channels, list(dataset.cases)) == (("t1", "flair"), ["p1", "p2"])
    image = read_image(dataset.cases["p1"].images)
    np.testing.assert_array_equal(image.array, np.stack([_image(2), _image(1)]))


def test_one_file_with_channels_is_split_and_time_frames_are_asked_about(tmp_path: Path) -> None:
    array = np.stack([_image(c) for c in range(4)], axis=-1)
    _write(tmp_path / "images/a.nii.gz", array)
    _write(tmp_path / "labels/a.nii.gz", _label())
    assert "came 4D with 4 entries in 1 file(s): if they are channels, name all 4" in _problems(tmp_path)[0]
    _init(tmp_path, channels=("flair", "t1w", "t1gd", "t2w"))
    (case,) = open_dataset(tmp_path / "data").cases.values()
    assert [path.name for path in case.images] == [f"a_{c:04d}.nii.gz" for c in range(4)]
    np.testing.assert_array_equal(read_image(case.images).array, np.moveaxis(array, -1, 0))


@pytest.mark.parametrize("copy", [False, True])
def test_nifti_files_are_linked_or_copied_and_everything_else_is_converted(tmp_path: Path, copy: bool) -> None:
    _scans(tmp_path, ["a.nii.gz", "b.nrrd"], ["a.nii.gz", "b.mha"])
    made = _init(tmp_path, copy=copy)
    assert made.report.errors == ()
    linked = tmp_path / "data/imagesTr/a_0000.nii.gz"
    assert linked.samefile(tmp_path / "images/a.nii.gz") is not copy
    assert linked.read_bytes() == (tmp_path / "images/a.nii.gz").read_bytes()
    volume = read_image([tmp_path / "data/imagesTr/b_0000.nii.gz"])
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array[0], _image(1))
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    np.testing.assert_array_equal(read_label(tmp_path / "data/labelsTr/b.nii.gz").array, _label())


def test_uncompressed_nifti_stays_so_when_everything_is(tmp_path: Path) -> None:
    _scans(tmp_path, ["a.nii", "b.nii"], ["a.nii"])
    _init(tmp_path)
    assert open_dataset(tmp_path / "data").file_ending == ".nii"


def test_dicom_folders_and_the_modality_that_they_tell(tmp_path: Path) -> None:
    for number in (1, 2):
        write_dicom(tmp_path / f"images/patient{number}", _image(number), affine_of(np.eye(3)), modality="CT")
    write_sitk(tmp_path / "labels/patient1.nrrd", _label(), affine_of(np.eye(3)))
    made = _init(tmp_path)
    assert made.report.errors == ()
    assert open_dataset(tmp_path / "data").channels == ("CT",)
    assert "Secret" not in "".join(path.name for path in (tmp_path / "data").rglob("*"))
    for path in (tmp_path / "data/imagesTr").iterdir():
        assert b"Secret" not in path.read_bytes()


@pytest.mark.parametrize(
    ("shift", "modality"), [(-1000, "CT"), (0, "MRI")], ids=["values of air", "no negative values"]
)
def test_the_modality_is_guessed_from_values_and_said(tmp_path: Path, shift: int, modality: str) -> None:
    _write(tmp_path / "images/a.nii.gz", _image() + np.int16(shift))
    _write(tmp_path / "labels/a.nii.gz", _label())
    made = _init(tmp_path)
    assert any(note.startswith(f"channels: {modality} (by names and values") for note in made.notes)
    assert open_dataset(tmp_path / "data").channels == (modality,)


def test_classes_are_named_and_numbers_without_names_are_listed(tmp_path: Path) -> None:
    _scans(tmp_path, ["a.nii.gz"], ["a.nii.gz"])
    made = _init(tmp_path)
    assert "classes: 0 background, 1 class_1, 2 class_2 (name them with --classes, or in dataset.json)" in made.notes
    other = tmp_path / "other"
    _scans(other, ["a.nii.gz"], ["a.nii.gz"])
    _init(other, classes=("liver", "kidney"))
    assert open_dataset(other / "data").class_names == ("background", "liver", "kidney")


@pytest.mark.parametrize(
    ("values", "classes", "words"),
    [
        ((0, 1, 4), (), "came 1, 4 (1 file(s), such as a.nii.gz): say which class each is, as in --classes 1=NAME,4"),
        ((0, 1, 4), ("a", "b"), "--classes 1=NAME,4=NAME"),
        ((0, 1, 2), ("a",), "name all classes, as in --classes 1=a,2=NAME"),
        ((0, 1, 2), ("1=a",), "came also 2 (1 file(s), such as a.nii.gz): name all classes, as in --classes 1=a,2"),
        ((0, 1, 2), ("a", "a"), "expected different names"),
        ((0, 1, 2), ("a", "background"), "expected different names, without the background"),
        ((0, 1, 2), ("1=a", "b"), "expected NAME,NAME or VALUE=NAME"),
        ((0, 1, 2), ("a", ""), "came an empty one"),
    ],
)  # fmt: skip
def test_values_that_are_not_named_are_refused_with_the_fix(
    tmp_path: Path, values: tuple[int, ...], classes: tuple[str, ...], words: str
) -> None:
    _scans(tmp_path, ["a.nii.gz"], ["a.nii.gz"], values)
    assert words in "\n".join(_problems(tmp_path, classes=classes))


@pytest.mark.parametrize(
    ("values", "classes"), [((0, 500, 600), ("600=vessel", "500=heart")), ((0, 255), ("lesion",)), ((0, 2), ("2=b",))]
)
def test_values_are_renumbered_where_it_is_said_what_they_are(
    tmp_path: Path, values: tuple[int, ...], classes: tuple[str, ...]
) -> None:
    _write(tmp_path / "images/a.nii.gz", _image())
    _write(tmp_path / "labels/a.nii.gz", _label(values, np.int16))
    made = _init(tmp_path, classes=classes)
    assert made.report.errors == ()
    assert any(note.startswith("label values renumbered") for note in made.notes)
    written = read_label(tmp_path / "data/labelsTr/a.nii.gz").array
    np.testing.assert_array_equal(written, voxels(SHAPE) % len(values))
    names = open_dataset(tmp_path / "data").class_names
    assert names == ("background", *sorted(name.partition("=")[2] or name for name in classes))


def test_formats_without_a_place_are_told_and_may_be_given_one(tmp_path: Path) -> None:
    _scans(tmp_path, ["a.npy"], ["a.npy"])
    made = _init(tmp_path)
    assert any("1 scans record no spacing, 1 x 1 x 1 mm is taken" in note for note in made.notes)
    other = tmp_path / "other"
    _scans(other, ["a.npy"], ["a.npy"])
    made = _init(other, spacing=(0.5, 0.5, 3.0))
    assert made.report.spacing == ((0.5, 0.5, 3.0), (0.5, 0.5, 3.0))


def test_a_label_without_a_place_takes_that_of_its_image_and_another_shape_is_refused(tmp_path: Path) -> None:
    _scans(tmp_path, ["a.nrrd"], ["a.npy"])
    assert _init(tmp_path).report.errors == ()
    other = tmp_path / "other"
    _scans(other, ["a.nrrd"], [])
    _write(other / "labels/a.npy", _label()[1:])
    assert "a.npy: expected shape [7, 6, 5] as a.nrrd, came [6, 6, 5]" in _problems(other)[0]


def test_files_that_hold_image_and_label(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        with h5py.File(tmp_path / f"images/{name}.h5", "w") as file:
            file["image"] = voxels(SHAPE).astype(np.float32)
            if name == "a":
                file["label"] = _label()
    semiseg.init_dataset(tmp_path / "images", None, tmp_path / "data", workers=1)
    assert _matched(tmp_path) == {"a": True, "b": False}
    np.testing.assert_array_equal(read_label(tmp_path / "data/labelsTr/a.nii.gz").array, _label())


def test_coloured_pictures_become_three_channels(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    pixels = voxels((6, 7, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images/a.png")
    Image.fromarray((pixels[..., 0] > 50).astype(np.uint8) * 255).save(tmp_path / "labels/a.png")
    made = _init(tmp_path, classes=("vessel",))
    assert made.report.errors == ()
    dataset = open_dataset(tmp_path / "data")
    assert dataset.channels == ("red", "green", "blue")
    np.testing.assert_array_equal(read_image(dataset.cases["a"].images).array[..., 0], pixels.transpose(2, 1, 0))


def test_labels_beside_images_and_patterns_of_files(tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        _write(tmp_path / f"src/{name}/mr.nii.gz", _image(ord(name[1])))
        _write(tmp_path / f"src/{name}/mr_seg.nii.gz", _label())
    semiseg.init_dataset(tmp_path / "src", tmp_path / "src", tmp_path / "data", workers=1)
    assert _matched(tmp_path) == {"p1": True, "p2": True}
    pattern = str(tmp_path / "src/*/")
    semiseg.init_dataset(f"{pattern}/mr.nii.gz", f"{pattern}/mr_seg.nii.gz", tmp_path / "b/data", workers=1)
    assert _matched(tmp_path / "b") == {"p1": True, "p2": True}


def test_patients_are_written_and_patterns_that_miss_are_told(tmp_path: Path) -> None:
    _scans(tmp_path, ["p1_a.nii.gz", "p1_b.nii.gz", "p2_a.nii.gz"], ["p1_a.nii.gz"])
    assert len(_problems(tmp_path, patients=r"^(p1)")) == 1
    _init(tmp_path, patients=r"^(p\d)_")
    cases = open_dataset(tmp_path / "data").cases
    assert [case.patient for case in cases.values()] == ["p1", "p1", "p2"]


def test_what_check_finds_is_reported(tmp_path: Path) -> None:
    _scans(tmp_path, ["a.nii.gz", "b.nii.gz"], ["a.nii.gz"])
    _write(tmp_path / "images/b.nii.gz", _image(0))
    write_nifti(tmp_path / "labels/a.nii.gz", _label(), np.eye(4))
    report = _init(tmp_path).report
    assert "expected the affine of a_0000.nii.gz" in report.errors[0]
    assert "hold the same voxels" in report.warnings[-1]


def test_a_stopped_call_goes_on_and_a_finished_one_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _scans(tmp_path, ["a.nrrd", "b.nrrd"], ["a.nrrd"])
    real: Callable[..., None] = os.replace
    calls = []

    def stop(source: Path, target: Path) -> None:
        calls.append(Path(target).name)
        if Path(target).name == "b_0000.nii.gz":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        _init(tmp_path)
    monkeypatch.undo()
    data = tmp_path / "data"
    assert not (data / "dataset.json").exists()
    before = (data / "imagesTr/a_0000.nii.gz").stat().st_mtime_ns
    assert _init(tmp_path).report.errors == ()
    assert (data / "imagesTr/a_0000.nii.gz").stat().st_mtime_ns == before
    assert calls[0] == "init.json"
    assert sorted(path.name for path in data.rglob("*") if path.is_file()) == sorted(
        ["a.nii.gz", "a_0000.nii.gz", "b_0000.nii.gz", "dataset.json", "init.json"]
    )
    assert _init(tmp_path).report.errors == ()
    semiseg.init_dataset(tmp_path / "images", None, data, workers=1)
    assert (data / "labelsTr/a.nii.gz").is_file()


def test_folders_of_others_and_folders_without_scans(tmp_path: Path) -> None:
    _scans(tmp_path, ["a.nii.gz"], ["a.nii.gz"])
    (tmp_path / "data/imagesTr").mkdir(parents=True)
    assert "expected a new folder" in _problems(tmp_path)[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="expected a folder with images, found no file that can be read"):
        semiseg.init_dataset(tmp_path / "empty", None, tmp_path / "data")
    with pytest.raises(InputError, match="came no labels: name labels with seg"):
        semiseg.init_dataset(tmp_path / "images", tmp_path / "images", tmp_path / "data")


def test_damaged_files_are_all_named(tmp_path: Path) -> None:
    _scans(tmp_path, ["a.nrrd", "b.nrrd", "c.nii.gz"], ["a.nii.gz", "b.nii.gz"])
    for name in ("labels/a.nii.gz", "labels/b.nii.gz"):
        (tmp_path / name).write_bytes(b"no")
    assert len(_problems(tmp_path)) == 2
    _scans(tmp_path, [], ["a.nii.gz", "b.nii.gz"])
    for name in ("images/a.nrrd", "images/b.nrrd"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) - 50])
    assert len(_problems(tmp_path)) == 2


def test_several_processes_make_the_same_dataset(tmp_path: Path) -> None:
    _scans(tmp_path, ["a.nrrd", "b.mha", "c.nii.gz"], ["a.nrrd", "b.nii.gz"])
    _init(tmp_path)
    semiseg.init_dataset(tmp_path / "images", tmp_path / "labels", tmp_path / "two" / "data", workers=2)
    for path in (tmp_path / "data").rglob("*.nii.gz"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path)).read_bytes()
    assert json.loads((tmp_path / "two/data/dataset.json").read_text()) == json.loads(
        (tmp_path / "data/dataset.json").read_text()
    )


def _names(root: Path, folder: str) -> list[str]:
    return sorted(path.name for path in (root / "data" / folder).iterdir())


def test_another_call_adds_scans_and_labels_and_says_so(tmp_path: Path) -> None:
    _scans(tmp_path, ["a.nii.gz", "b.nii.gz"], ["a.nii.gz"])
    _init(tmp_path, classes=("x", "y"))
    _write(tmp_path / "images/c.nii.gz", _image(7))
    _write(tmp_path / "labels/b.nii.gz", _label())
    made = _init(tmp_path)
    assert {"added: 1 (c)", "labels added: 1 (b)"} <= set(made.notes)
    assert _names(tmp_path, "imagesTr") == [f"{case}_0000.nii.gz" for case in "abc"]
    assert _names(tmp_path, "labelsTr") == ["a.nii.gz", "b.nii.gz"]
    assert open_dataset(tmp_path / "data").class_names == ("background", "x", "y")
    assert not any(note.startswith(("added", "changed")) for note in _init(tmp_path).notes)


def test_a_folder_of_new_scans_alone_can_be_added_and_the_rest_stays(tmp_path: Path) -> None:
    _scans(tmp_path, ["a.nrrd", "b.nrrd"], ["a.nii.gz"])
    _init(tmp_path)
    shutil.rmtree(tmp_path / "images")  # what was converted needs its source no more
    _write(tmp_path / "more/d.nrrd", _image(3))
    made = semiseg.init_dataset(tmp_path / "more", None, tmp_path / "data", workers=1)
    assert {"added: 1 (d)", "left as they are: 2"} <= set(made.notes)
    assert made.report.errors == ()
    assert set(open_dataset(tmp_path / "data").cases) == {"a", "b", "d"}


def test_a_forgotten_folder_of_labels_is_given_afterwards(tmp_path: Path) -> None:
    _scans(tmp_path, ["a.nii.gz"], ["a.nii.gz"], values=(0, 3))
    semiseg.init_dataset(tmp_path / "images", None, tmp_path / "data", workers=1)
    assert open_dataset(tmp_path / "data").class_names == ("background", "class_1")
    made = _init(tmp_path, classes=("organ",))
    assert "labels added: 1 (a)" in made.notes
    assert set(np.unique(read_label(tmp_path / "data/labelsTr/a.nii.gz").array)) == {0, 1}


def test_a_new_class_renumbers_all_labels_or_says_which_source_is_gone(tmp_path: Path) -> None:
    _scans(tmp_path, ["a.nii.gz", "b.nii.gz"], ["a.nii.gz"], values=(0, 5))
    _init(tmp_path, classes=("5=organ",))
    _write(tmp_path / "labels/b.nii.gz", _label((0, 2, 5)))
    classes = ("2=vessel", "5=organ")
    label = tmp_path / "labels/a.nii.gz"
    label.rename(tmp_path / "kept.nii.gz")
    with pytest.raises(InputError, match=r"a.nii.gz: the classes change.*restore it"):
        semiseg.init_dataset(tmp_path / "images", tmp_path / "labels", tmp_path / "data", workers=1, classes=classes)
    (tmp_path / "kept.nii.gz").rename(label)
    _init(tmp_path, classes=classes)
    assert set(np.unique(read_label(tmp_path / "data/labelsTr/a.nii.gz").array)) == {0, 2}
    assert set(np.unique(read_label(tmp_path / "data/labelsTr/b.nii.gz").array)) == {0, 1, 2}


def test_another_file_under_the_name_of_a_case_replaces_it(tmp_path: Path) -> None:
    _scans(tmp_path, ["a.nrrd"], ["a.nii.gz"])
    _init(tmp_path)
    _write(tmp_path / "again/a.nrrd", _image(40))
    os.utime(tmp_path / "again/a.nrrd", (0, 0))
    made = semiseg.init_dataset(tmp_path / "again", None, tmp_path / "data", workers=1)
    assert "changed: 1 (a)" in made.notes
    image = read_image([tmp_path / "data/imagesTr/a_0000.nii.gz"])
    assert image.array.min() == 40
    assert _names(tmp_path, "labelsTr") == ["a.nii.gz"]


def test_all_cases_of_a_dataset_have_the_same_channels(tmp_path: Path) -> None:
    _scans(tmp_path, ["a.nii.gz"], ["a.nii.gz"])
    _init(tmp_path, channels=("T1",))
    with pytest.raises(InputError, match="--channels was \\['T1'\\], now \\['CT'\\]"):
        semiseg.init_dataset(tmp_path / "images", None, tmp_path / "data", workers=1, channels=("CT",))
