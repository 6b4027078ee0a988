"""Every problem that `check` must find, one by one and all at once."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from semiseg.preparing.checks import Report, check
from semiseg.preparing.prepare import prepare
from tiny import tiny_dataset, write_nifti

SHAPE = (8, 7, 6)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tiny_dataset(tmp_path / "data", cases=5, labelled=3, shape=SHAPE, channels=2)


def _array(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj).copy()


def _change(path: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> Path:
    """Write the array of `path` anew after `change`."""
    return write_nifti(path, change(_array(path)), affine)


def _set(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.float32)
        array[1, 2, 3] = array[7, 6, 5] = value
        return array

    return change


def _one_error(report: Report, path: Path, *words: str) -> None:
    (error,) = report.errors
    assert error.startswith(f"{path}: ")
    for word in words:
        assert word in error


def _one_warning(report: Report, *words: str) -> None:
    assert report.errors == ()
    (warning,) = report.warnings
    for word in words:
        assert word in warning


def test_a_good_dataset_has_neither_errors_nor_warnings(root: Path) -> None:
    report = check(root)
    assert (report.errors, report.warnings) == ((), ())
    assert (report.cases, report.labelled, report.unlabelled) == (5, 3, 2)
    assert report.shape == (SHAPE, SHAPE)
    assert report.spacing == ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    counts = sum(np.bincount(_array(file).ravel(), minlength=3) for file in (root / "labelsTr").iterdir())
    assert list(report.voxels.values()) == counts.tolist()
    assert list(report.voxels) == ["background", "class1", "class2"]
    report.raise_if_errors()
    for words in ("5 cases: 3 labelled, 2 unlabelled", "shape: 8 x 7 x 6 voxels", "spacing: 1 x 1 x 1 mm", "class2: "):
        assert words in report.summary()


def test_ranges_of_shapes_and_spacings(tmp_path: Path) -> None:
    root = tiny_dataset(tmp_path, cases=2, labelled=2, shape=SHAPE)
    for folder, name in (("imagesTr", "case_001_0000"), ("labelsTr", "case_001")):
        _change(root / folder / f"{name}.nii.gz", lambda a: a[:-1], np.diag([1, 0.5, 2, 1]))
    report = check(root)
    assert report.errors == ()
    assert report.shape == ((7, 7, 6), SHAPE)
    assert report.spacing == ((1.0, 0.5, 1.0), (1.0, 1.0, 2.0))
    assert "shape: 7 to 8 x 7 x 6 voxels" in report.summary()


def test_two_dimensional_datasets_pass(tmp_path: Path) -> None:
    report = check(tiny_dataset(tmp_path, shape=(16, 14)))
    assert report.errors == ()
    assert report.shape == ((16, 14, 1), (16, 14, 1))


def test_oblique_and_left_handed_datasets_pass(tmp_path: Path) -> None:
    affine = np.array([[-0.8, -0.3, 0.0, -70.0], [-0.25, 0.9, 0.1, 30.0], [0.0, -0.1, 2.5, 12.0], [0, 0, 0, 1.0]])
    assert np.linalg.det(affine) < 0
    report = check(tiny_dataset(tmp_path, affine=affine))
    assert (report.errors, report.warnings) == ((), ())


@pytest.mark.parametrize("name", ["imagesTr/case_003_0001.nii.gz", "labelsTr/case_001.nii.gz"])
def test_files_that_are_empty_or_cut_off(root: Path, name: str) -> None:
    content = (root / name).read_bytes()
    (root / name).write_bytes(content[: len(content) * 2 // 3])
    _one_error(check(root), root / name, "cut off", "copy it again")
    (root / name).write_bytes(b"")
    _one_error(check(root), root / name, "0 bytes")
    (root / name).write_bytes(gzip.compress(b"something else"))
    _one_error(check(root), root / name, "expected a NIfTI file, came something else")


def test_missing_channel(root: Path) -> None:
    path = root / "imagesTr/case_004_0001.nii.gz"
    path.unlink()
    _one_error(check(root), path, "expected channel 1 (channel1) of case 'case_004', found none", "add it")


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("imagesTr/case_003_0001.nii.gz", "case_003_0000.nii.gz"),
        ("labelsTr/case_001.nii.gz", "case_001_0000.nii.gz"),
    ],
)
def test_channels_and_labels_on_other_grids(root: Path, name: str, reference: str) -> None:
    path = root / name
    tiny = np.eye(4)
    tiny[0, 3] = 9e-4
    _change(path, lambda a: a, tiny)
    assert check(root).errors == check(root).warnings == ()
    small = np.eye(4)
    small[0, 3] = 0.05
    _change(path, lambda a: a, small)
    report = check(root)
    assert report.errors == ()
    _one_warning(report, f"{path}: ", "0.05 mm (0.05 of a voxel) apart", "copy the affine")
    gross = np.eye(4)
    gross[1, 3] = 0.2
    _change(path, lambda a: a, gross)
    _one_error(check(root), path, f"affine of {reference}", "origin", "0.2 mm apart", "copy the affine")
    _change(path, lambda a: a, np.diag([1, 1, 3, 1]))
    _one_error(check(root), path, "spacing (1, 1, 3 instead of 1, 1, 1 mm)")
    _change(path, lambda a: a, np.diag([-1, 1, 1, 1]))
    _one_error(check(root), path, "direction (axes to LAS", "instead of RAS")
    _change(path, lambda a: a[:-1])
    _one_error(check(root), path, f"expected shape [8, 7, 6] as {reference}, came [7, 7, 6]", "resample")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite(root: Path, value: float) -> None:
    path = _change(root / "imagesTr/case_003_0001.nii.gz", _set(value))
    _one_error(check(root), path, "NaN or infinity in 2 voxel(s), the first at [1, 2, 3]", "replace")


def test_label_values_without_a_class(root: Path) -> None:
    path = _change(root / "labelsTr/case_002.nii.gz", _set(7))
    _one_error(check(root), path, "label values 0 to 2 of dataset.json, came 7 in 2 voxel(s), the first at [1, 2, 3]")
    _change(path, _set(300))
    _one_error(check(root), path, "expected label values from 0 to 255, came 300")


def test_labels_that_are_no_whole_numbers(root: Path) -> None:
    path = _change(root / "labelsTr/case_002.nii.gz", _set(0.99))
    _one_error(check(root), path, "expected whole numbers as labels, came 0.99 in 2 voxel(s)", "round")


@pytest.mark.parametrize("name", ["imagesTr/case_003_0001.nii.gz", "labelsTr/case_001.nii.gz"])
def test_four_dimensional_files(root: Path, name: str) -> None:
    path = _change(root / name, lambda a: np.stack([a, a], axis=-1))
    _one_error(check(root), path, "expected a 3D scan (or a 2D image), came 4D of shape [8, 7, 6, 2]")


def test_constant_image(root: Path) -> None:
    path = _change(root / "imagesTr/case_003_0001.nii.gz", lambda a: np.full_like(a, 5))
    _one_warning(check(root), str(path), "came the constant 5 in every voxel")


def test_no_labelled_case(root: Path) -> None:
    shutil.rmtree(root / "labelsTr")
    report = check(root)
    _one_error(report, root / "labelsTr", "expected labels of some cases", "came none")
    assert report.labelled == 0
    with pytest.raises(InputError, match="expected labels"):
        report.raise_if_errors()


def test_a_class_without_a_voxel_and_a_class_in_one_case(root: Path) -> None:
    labels = sorted((root / "labelsTr").iterdir())
    for path in labels[1:]:
        _change(path, lambda a: np.where(a == 2, 0, a).astype(np.uint8))
    _one_warning(check(root), "class 2 (class2) is in one case only, 'case_000'")
    _change(labels[0], lambda a: np.where(a == 2, 0, a).astype(np.uint8))
    _one_error(check(root), root / "labelsTr", "expected voxels of class 2 (class2), came none in any label")


def test_a_label_of_background_only(root: Path) -> None:
    path = _change(root / "labelsTr/case_002.nii.gz", np.zeros_like)
    _one_warning(check(root), str(path), "background only")


def test_the_same_voxels_under_two_ids(root: Path) -> None:
    for channel in ("0000", "0001"):
        copied = root / f"imagesTr/case_000_{channel}.nii.gz"
        write_nifti(root / f"imagesTr/case_003_{channel}.nii.gz", _array(copied).astype(np.float32))
    _one_warning(check(root), "cases 'case_000', 'case_003' hold the same voxels", "patients.json")
    _change(root / "imagesTr/case_003_0001.nii.gz", _set(1))
    assert check(root).warnings == ()


def test_label_without_image(root: Path) -> None:
    path = root / "labelsTr/case_009.nii.gz"
    shutil.copy(root / "labelsTr/case_000.nii.gz", path)
    _one_warning(check(root), str(path), "expected its image in imagesTr, found none")


def test_an_unusable_description_is_reported_not_raised(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {}}))
    report = check(tmp_path)
    assert len(report.errors) == 3
    assert report.summary() == "0 cases: 0 labelled, 0 unlabelled"


def test_everything_is_told_at_once(root: Path) -> None:
    (root / "imagesTr/case_000_0000.nii.gz").write_bytes(b"")
    _change(root / "imagesTr/case_001_0001.nii.gz", _set(np.nan))
    (root / "imagesTr/case_002_0001.nii.gz").unlink()
    _change(root / "imagesTr/case_003_0001.nii.gz", lambda a: a[1:])
    _change(root / "imagesTr/case_004_0000.nii.gz", lambda a: np.zeros_like(a))
    _change(root / "labelsTr/case_000.nii.gz", _set(9))
    _change(root / "labelsTr/case_001.nii.gz", lambda a: a[1:])
    (root / "labelsTr/case_002.nii.gz").write_bytes(b"no")
    report = check(root)
    assert len(report.errors) == 7
    assert all("\n" not in problem and ": " in problem for problem in (*report.errors, *report.warnings))
    with pytest.raises(InputError) as caught:
        report.raise_if_errors()
    assert caught.value.problems == report.errors


@pytest.mark.parametrize("name", ["la", "acdc", "hippocampus"])
def test_real_scans_pass(real_data: Path, tmp_path: Path, name: str) -> None:
    """A few scans of each folder, linked into one of their own."""
    cases = [file.name.removesuffix(".nii.gz") for file in sorted((real_data / name / "labelsTr").iterdir())[:4]]
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
        for file in (real_data / name / folder).iterdir():
            if file.name.startswith(tuple(cases)):
                (tmp_path / folder / file.name).symlink_to(file)
    shutil.copy(real_data / name / "dataset.json", tmp_path)
    report = check(tmp_path)
    assert (report.errors, report.warnings, report.labelled) == ((), (), 4)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAL"])
def test_label_outside_of_the_foreground(tmp_path: Path, axes: str) -> None:
    root = tiny_dataset(tmp_path / "data", cases=3, labelled=3, shape=(40, 20, 20))
    image, label = np.zeros((40, 20, 20), np.int16), np.zeros((40, 20, 20), np.uint8)
    image[4:20, 4:16, 4:16] = 500
    label[6:10, 6:10, 6:10], label[10:12, 6:10, 6:10] = 1, 2
    label[30:34, 6:10, 6:7] = 1
    for folder, name, array in (("imagesTr", "case_000_0000", image), ("labelsTr", "case_000", label)):
        scan = nib.Nifti1Image(array, np.eye(4))
        turned = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
        )
        nib.save(scan.as_reoriented(turned), root / folder / f"{name}.nii.gz")
    _one_warning(check(root), "case_000.nii.gz", "16 of 112 labelled voxels (14.3%) outside", "voxels ")


def test_warnings_are_told_while_preparing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tiny_dataset(tmp_path / "data", cases=3, labelled=3)
    _change(root / "labelsTr" / "case_000.nii.gz", np.zeros_like)
    prepare(open_dataset(root), workers=1)
    assert "background only" in caplog.text
