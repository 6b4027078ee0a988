"""DICOM series: the order of slices, several series in one folder, and what must not leave the reader."""

from __future__ import annotations

import locale
from pathlib import Path

import numpy as np
import pytest

from scans.foreign import SERIES, affine_of, directions, voxels, write_dicom
from semiseg.errors import InputError
from semiseg.scans.formats.dicom import modality
from semiseg.scans.readers import read_header, read_image, write_label

AFFINE = affine_of(np.eye(3))


def _refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_image([path])
    (problem,) = caught.value.problems
    assert "\n" not in problem
    assert "Secret" not in problem
    for word in words:
        assert word in problem


@pytest.mark.parametrize("mirrored", [False, True])
def test_slices_lie_where_they_were_taken_for_every_direction(tmp_path: Path, mirrored: bool) -> None:
    """A series cannot be left-handed: the slices of a mirrored scan come back in reverse order, at their places."""
    array = voxels()
    for number, direction in enumerate(directions()):
        if (np.linalg.det(direction) < 0) is not mirrored or number % 3:
            continue
        affine = affine_of(direction)
        folder = write_dicom(tmp_path / str(number), array, affine)
        volume = read_image([folder])
        assert volume.array.dtype == np.int16
        expected = array[:, :, ::-1] if mirrored else array
        np.testing.assert_array_equal(volume.array[0], expected)
        if mirrored:
            affine = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 4], [0, 0, 0, 1.0]])
        np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
        header = read_header(folder)
        assert (header.shape, header.recorded) == ((7, 6, 5), True)
        np.testing.assert_array_equal(header.affine, volume.affine)


def test_shifted_slices_keep_their_places(tmp_path: Path) -> None:
    """With a tilted gantry the stack is sheared; the affine says so."""
    affine = AFFINE.copy()
    affine[:3, 2] += (0, 0.6, 0)
    np.testing.assert_allclose(read_image([write_dicom(tmp_path / "a", voxels(), affine)]).affine, affine, atol=1e-5)


def test_stored_values_are_scaled(tmp_path: Path) -> None:
    volume = read_image([write_dicom(tmp_path / "a", voxels(), AFFINE, rescale=(1, -1024), modality="CT")])
    np.testing.assert_array_equal(volume.array[0], voxels() if volume.array.min() == 0 else voxels() - 1024)
    assert modality(tmp_path / "a") == "CT"


def test_a_label_is_written_on_the_grid_of_a_series(tmp_path: Path) -> None:
    folder = write_dicom(tmp_path / "a", voxels(), AFFINE)
    write_label(tmp_path / "out.nii.gz", np.ones((7, 6, 5), np.uint8), folder)
    np.testing.assert_allclose(read_header(tmp_path / "out.nii.gz").affine, AFFINE, atol=1e-5)


def test_several_series_are_named_and_nobody_is(tmp_path: Path) -> None:
    folder = write_dicom(tmp_path / "a", voxels(), AFFINE, prefix="a")
    write_dicom(folder, voxels((7, 6, 3)), AFFINE, series=f"{SERIES}.77", prefix="b")
    _refused(folder, "came 2:", f"{SERIES} (5 files, such as a000.dcm)", f"{SERIES}.77 (3 files, such as b000.dcm)")


def test_missing_doubled_and_foreign_slices_are_refused(tmp_path: Path) -> None:
    gap = write_dicom(tmp_path / "gap", voxels(), AFFINE)
    next(file for file in gap.iterdir() if file.name.startswith("004")).unlink()
    _refused(gap, "expected slices 2.5 mm apart", "came 5 mm between 002.dcm and 001.dcm", "a slice is missing")
    frames = write_dicom(tmp_path / "frames", voxels(), AFFINE, prefix="a")
    write_dicom(frames, voxels(), AFFINE, prefix="b")
    _refused(frames, "at a place of its own", "time frames or echoes")
    mixed = write_dicom(tmp_path / "mixed", voxels(), AFFINE, prefix="a")
    write_dicom(mixed, voxels((4, 6, 2)), affine_of(np.eye(3), origin=(0, 0, 100)), prefix="b")
    _refused(mixed, "expected slices of one size", "localizers")


def test_an_empty_folder_and_a_cut_off_slice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    _refused(tmp_path / "empty", "expected a folder with a DICOM series, found none")
    folder = write_dicom(tmp_path / "a", voxels((64, 64, 3)), AFFINE)
    file = folder / "000.dcm"
    content = file.read_bytes()
    for kept in (0, 500, 1000, len(content) - 4000, len(content) - 2):
        file.write_bytes(content[:kept])
        _refused(folder, "1 DICOM file(s) that are damaged or no image, such as 000.dcm")
        _refused(file, "000.dcm")


def test_a_real_series(real_data: Path) -> None:
    volume = read_image([real_data / "formats" / "dicom_series"])
    assert volume.array.shape == (1, 35, 51, 32)
    assert volume.spacing == pytest.approx((1, 1, 1))


def test_reading_leaves_the_locale_as_it_was(tmp_path: Path) -> None:
    """ITK's DICOM reader sets the locale "C", and text files would be read as ASCII from then on."""
    folder = write_dicom(tmp_path / "a", voxels(), AFFINE)
    before = locale.setlocale(locale.LC_ALL)
    read_image([folder])
    assert locale.setlocale(locale.LC_ALL) == before


@pytest.mark.parametrize("element", [0x32, 0x37], ids=["position", "orientation"])
def test_slices_that_do_not_say_where_they_lie_are_refused(tmp_path: Path, element: int) -> None:
    folder = write_dicom(tmp_path / "a", voxels(), AFFINE)
    file = sorted(folder.iterdir())[1]
    content, tag = file.read_bytes(), bytes((0x20, 0, element, 0))
    assert content.count(tag) == 1
    file.write_bytes(content.replace(tag, bytes((0x20, 0, element + 1, 0))))
    _refused(folder, file.name, "expected one slice with its position and orientation")
