"""Endings in any case, and what is in a file whatever its ending says."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from scans.foreign import voxels, write_sitk
from semiseg.conversion.papers.file_patterns import files_like
from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from semiseg.preparing.checks import check
from semiseg.scans.readers import read_header, read_image
from tiny import tiny_dataset, write_nifti


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tiny_dataset(tmp_path / "data", cases=4, labelled=2, shape=(6, 6, 6))


def _upper(path: Path) -> Path:
    return path.rename(path.with_name(path.name.replace(".nii.gz", ".NII.GZ")))


def test_files_with_an_ending_in_capitals_are_cases_and_labels(root: Path) -> None:
    before = open_dataset(root).cases
    image, label = _upper(root / "imagesTr/case_000_0000.nii.gz"), _upper(root / "labelsTr/case_001.nii.gz")
    cases = open_dataset(root).cases
    assert list(cases) == list(before)
    assert cases["case_000"].images == (image,)
    assert [case.label is not None for case in cases.values()] == [True, True, False, False]
    assert cases["case_001"].label == label
    assert check(root).errors == ()


def test_the_ending_in_the_description_may_be_in_capitals(root: Path) -> None:
    content = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(content | {"file_ending": ".NII.GZ"}))
    assert len(open_dataset(root).cases) == 4


def test_files_that_differ_in_case_only_are_refused(root: Path) -> None:
    for path in (root / "imagesTr/case_000_0000.nii.gz", root / "labelsTr/case_001.nii.gz"):
        shutil.copy(path, path.with_name(path.name.replace(".nii.gz", ".Nii.gz")))
    with pytest.raises(InputError) as caught:
        open_dataset(root)
    assert len(caught.value.problems) == 2
    assert all("expected one file of this name" in problem for problem in caught.value.problems)


def test_labels_and_images_in_other_formats_are_not_passed_over(root: Path) -> None:
    write_sitk(root / "labelsTr/case_002.nrrd", voxels((6, 6, 6)))
    write_sitk(root / "imagesTr/new_0000.mha", voxels((6, 6, 6)))
    (root / "imagesTr/case_003_0000.png").touch()
    with pytest.raises(InputError) as caught:
        open_dataset(root)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        str(root / "imagesTr/new_0000.mha"),
        str(root / "labelsTr/case_002.nrrd"),
    ]


@pytest.mark.parametrize("ending", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_other_formats_are_read_with_endings_in_capitals(tmp_path: Path, ending: str) -> None:
    path = write_sitk(tmp_path / f"a{ending}", voxels())
    volume = read_image([path.rename(tmp_path / f"a{ending.upper()}")])
    np.testing.assert_array_equal(volume.array[0], voxels())


def test_importers_find_endings_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "patient001_frame01.NII.GZ").touch()
    ((match, path),) = files_like(tmp_path, r"(?P<case>patient\d+_frame\d+)\.nii(\.gz)?")
    assert (match["case"], path.name) == ("patient001_frame01", "patient001_frame01.NII.GZ")


def test_nifti_is_read_whether_it_is_compressed_or_not(tmp_path: Path) -> None:
    plain = write_nifti(tmp_path / "a.nii", voxels())
    unpacked = plain.rename(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_image([unpacked]).array[0], voxels())
    assert read_header(unpacked).shape == voxels().shape
    packed = tmp_path / "b.nii"
    packed.write_bytes(gzip.compress(unpacked.read_bytes()))
    np.testing.assert_array_equal(read_image([packed]).array[0], voxels())


def test_nifti_that_is_compressed_twice_is_told_to_be(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", voxels())
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match="compressed twice: unpack it once"):
        read_image([path])


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.dcm", "a.npy", "a.png", "a.h5"])
def test_a_pointer_of_git_lfs_is_told_to_be_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")
    with pytest.raises(InputError, match="git lfs pull"):
        read_image([path])
