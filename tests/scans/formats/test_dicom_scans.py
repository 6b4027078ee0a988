"""DICOM as scanners write it: slices with scalings of their own, frames in one file, a series per slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data import dicom_files as dicom
from scans.foreign import affine_of, voxels, write_dicom
from semiseg.errors import InputError
from semiseg.scans.found import scan_paths
from semiseg.scans.readers import read_header, read_image, read_stored

PLANES = np.arange(6 * 5 * 4, dtype=np.uint16).reshape(6, 5, 4) * 500
"""`[slices, rows, columns]`"""
UP = [(-10.0, 5.0, 2.5 * number) for number in range(6)]


def _refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_image([path])
    (problem,) = caught.value.problems
    for word in words:
        assert word in problem


@pytest.mark.parametrize(
    ("slopes", "intercepts"),
    [
        ([1, 0.37, 0.013, 2.5, 1.75, 0.5], [0] * 6),
        ([0.37, 1, 2.5, 40, 0.001, 3], [0] * 6),
        ([1, 40, 1, 1, 1, 1], [0] * 6),
        ([1] * 6, [0, -1024, 0, 100, 0, -40000]),
    ],
    ids=["whole first", "fraction first", "beyond 16 bits", "intercepts"],
)
def test_every_slice_has_its_own_scaling(tmp_path: Path, slopes: list[float], intercepts: list[float]) -> None:
    for number, (plane, slope, intercept) in enumerate(zip(PLANES, slopes, intercepts, strict=True)):
        elements = {
            **dicom.image(plane, dicom.PET, number=number),
            **dicom.placed(UP[number]),
            **dicom.scaled(slope, intercept),
        }
        dicom.write(tmp_path / f"{number}.dcm", elements)
    truth = (PLANES * np.array(slopes)[:, None, None] + np.array(intercepts)[:, None, None]).T
    stored = read_stored(tmp_path).array
    assert stored.dtype == read_header(tmp_path).dtype
    np.testing.assert_allclose(stored[0], truth, rtol=1e-6)
    np.testing.assert_allclose(read_image([tmp_path]).array[0], truth, rtol=1e-6)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2]], ids=str)
def test_frames_of_one_file_lie_where_they_say(tmp_path: Path, order: list[int]) -> None:
    elements = {**dicom.image(PLANES[order], dicom.ENHANCED_MR), **dicom.frames([UP[number] for number in order])}
    volume = read_image([dicom.write(tmp_path / "a.dcm", elements)])
    np.testing.assert_array_equal(volume.array[0], PLANES.T)
    expected = np.diag([-1, -1, 2.5, 1.0])
    expected[:3, 3] = (10, -5, 0)
    np.testing.assert_allclose(volume.affine, expected)
    np.testing.assert_allclose(read_header(tmp_path / "a.dcm").affine, expected)


def test_frames_with_gaps_and_frames_at_one_place_are_refused(tmp_path: Path) -> None:
    def file(name: str, positions: list[tuple[float, float, float]]) -> Path:
        elements = {**dicom.image(PLANES, dicom.ENHANCED_MR), **dicom.frames(positions)}
        return dicom.write(tmp_path / name, elements)

    gap = file("gap.dcm", [*UP[:4], *((x, y, z + 10) for x, y, z in UP[4:])])
    _refused(gap, "expected slices 2.5 mm apart", "came 12.5 mm between frame 4 and frame 5")
    _refused(file("twice.dcm", [*UP[:3], *UP[:3]]), "at a place of its own", "move each to a file of its own")
    _refused(file("few.dcm", UP[:4]), "6 frames", "came places of 4", "convert it to .nii.gz")


def test_frames_that_do_not_say_where_they_lie_are_refused(tmp_path: Path) -> None:
    elements = dicom.image(PLANES, dicom.ENHANCED_MR)
    _refused(dicom.write(tmp_path / "none.dcm", elements), "says where each of them lies", "convert it to .nii.gz")
    _refused(dicom.write(tmp_path / "first.dcm", elements | dicom.placed(UP[0])), "came places of 0")


def test_frames_in_equal_or_listed_steps_from_the_first_are_read(tmp_path: Path) -> None:
    elements = {**dicom.image(PLANES, dicom.CT), **dicom.placed(UP[0])}
    between = dicom.write(tmp_path / "a.dcm", elements | dicom.element(0x18, 0x88, "DS", [2.5]))
    assert read_image([between]).spacing == pytest.approx((1, 1, 2.5))
    offsets = dicom.element(0x3004, 0x0C, "DS", [0.0, -2.5, -5, -7.5, -10, -12.5])
    dose = read_image([dicom.write(tmp_path / "b.dcm", elements | offsets)])
    np.testing.assert_array_equal(dose.array[0], PLANES[::-1].T)
    assert dose.affine[2, 3] == pytest.approx(-12.5)


def test_frames_with_scalings_of_their_own_are_refused_and_one_scaling_is_applied(tmp_path: Path) -> None:
    image = dicom.image(PLANES, dicom.ENHANCED_MR)
    own = dicom.write(tmp_path / "own.dcm", image | dicom.frames(UP, [1, 2, 3, 4, 5, 6]))
    _refused(own, "expected one scaling of intensities for all frames", "every slice to a file of its own")
    one = read_image([dicom.write(tmp_path / "one.dcm", image | dicom.frames(UP, [2.0] * 6))])
    np.testing.assert_array_equal(one.array[0], 2.0 * PLANES.T)


def _series_per_slice(folder: Path, positions: list[tuple[float, float, float]]) -> Path:
    for number, position in enumerate(positions):
        elements = {
            **dicom.image(PLANES[number], dicom.CT, series=f"{dicom.ROOT}.1.{number}"),
            **dicom.placed(position),
        }
        dicom.write(folder / f"{5 - number}.dcm", elements)
    return folder


def test_slices_with_a_series_each_are_one_scan_when_they_lie_in_equal_steps(tmp_path: Path) -> None:
    volume = read_image([_series_per_slice(tmp_path, UP)])
    np.testing.assert_array_equal(volume.array[0], PLANES.T)
    assert volume.spacing == pytest.approx((1, 1, 2.5))


def test_slices_with_a_series_each_that_are_no_scan_are_refused_in_a_few_words(tmp_path: Path) -> None:
    folder = _series_per_slice(tmp_path, [*UP[:5], (0.0, 0.0, 90.0)])
    _refused(folder, "came 6 of one file each", "and 2 more", "came 80 mm between 1.dcm and 0.dcm")
    with pytest.raises(InputError) as caught:
        read_image([folder])
    assert len(str(caught.value)) < 500


def test_many_series_are_listed_in_a_few_words(tmp_path: Path) -> None:
    for number in range(30):
        write_dicom(
            tmp_path, voxels((4, 4, 2)), affine_of(np.eye(3)), series=f"{dicom.ROOT}.{number}", prefix=f"{number}_"
        )
    _refused(tmp_path, "came 30:", "and 26 more: move each to a folder of its own")


def test_a_damaged_slice_of_series_of_their_own_is_not_passed_over(tmp_path: Path) -> None:
    folder = _series_per_slice(tmp_path, UP)
    (folder / "0.dcm").write_bytes((folder / "0.dcm").read_bytes()[:-10])
    _refused(folder, "damaged or no image, such as 0.dcm")


def test_contours_beside_a_series_are_passed_over(tmp_path: Path) -> None:
    folder = write_dicom(tmp_path / "a", voxels(), affine_of(np.eye(3)))
    contours = dicom.image(PLANES[0], dicom.CONTOURS, series=f"{dicom.ROOT}.3")
    del contours[0x7FE0, 0x10]
    dicom.write(folder / "RS.001.dcm", contours)
    np.testing.assert_array_equal(read_image([folder]).array[0], voxels())


def test_a_deflated_file_is_told_to_be_one(tmp_path: Path) -> None:
    path = dicom.write(tmp_path / "a" / "0.dcm", dicom.image(PLANES[0], dicom.CT) | dicom.placed(UP[0]), dicom.DEFLATED)
    for scan in (path, path.parent):
        _refused(scan, str(path), "compressed as a whole (deflated)", "decompress it, as dcmconv +te OLD NEW")


def test_slices_without_preamble_and_without_ending_are_found(tmp_path: Path) -> None:
    for number, plane in enumerate(PLANES):
        path = dicom.write(
            tmp_path / "a" / f"IM{number}", dicom.image(plane, dicom.CT, number=number) | dicom.placed(UP[number])
        )
        path.write_bytes(path.read_bytes()[128 + 4 + 12 + path.read_bytes()[140] :])
    (tmp_path / "a" / "notes").write_text("no scan")
    assert scan_paths(tmp_path) == [tmp_path / "a"]
    np.testing.assert_array_equal(read_image([tmp_path / "a"]).array[0], PLANES.T)
