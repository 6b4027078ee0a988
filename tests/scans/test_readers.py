"""Reading what is stored, refusing what is broken, writing on the scan's own grid."""

from __future__ import annotations

import gzip
import itertools
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from semiseg.errors import InputError
from semiseg.scans.readers import read_header, read_image, read_label, write_label
from tiny import write_nifti

OBLIQUE = np.array([[0.8, -0.3, 0.0, -70.0], [0.25, 0.9, 0.1, 30.0], [0.0, -0.1, 2.5, 12.0], [0, 0, 0, 1.0]])


def _random(shape: tuple[int, ...] = (7, 6, 5), dtype: type = np.int16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def test_int16_is_kept_and_everything_else_becomes_float32(tmp_path: Path) -> None:
    for dtype in (np.int16, np.uint8, np.uint16, np.int32, np.float32, np.float64):
        path = write_nifti(tmp_path / "a.nii.gz", _random(dtype=dtype))
        volume = read_image([path])
        assert volume.array.dtype == (np.int16 if dtype is np.int16 else np.float32)
        assert volume.array.shape == (1, 7, 6, 5)
        np.testing.assert_array_equal(volume.array[0], _random())


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_big_endian_and_uncompressed_files_read_the_same(tmp_path: Path, ending: str) -> None:
    image = nib.Nifti1Image(_random(), np.eye(4), nib.Nifti1Header(endianness=">"), dtype=np.int16)
    nib.save(image, tmp_path / f"a{ending}")
    volume = read_image([tmp_path / f"a{ending}"])
    np.testing.assert_array_equal(volume.array[0], _random())
    assert volume.array.dtype == np.int16
    assert not isinstance(volume.array, np.memmap)


def test_scaling_in_the_header_is_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(_random(), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "a.nii.gz")
    stored = np.asarray(nib.load(tmp_path / "a.nii.gz").dataobj)
    volume = read_image([tmp_path / "a.nii.gz"])
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array[0], stored, rtol=1e-6)


def test_channels_are_stacked_in_order_and_mixed_types_become_float(tmp_path: Path) -> None:
    first = write_nifti(tmp_path / "a.nii.gz", _random())
    second = write_nifti(tmp_path / "b.nii.gz", _random().astype(np.float32) + 0.5)
    assert read_image([first, first]).array.dtype == np.int16
    volume = read_image([second, first])
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, np.stack([_random() + 0.5, _random()]))


@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 1), (7, 6, 1, 1), (7, 6, 5, 1)])
def test_flat_images_get_a_slice_axis_and_axes_of_length_one_are_dropped(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", _random(shape))
    expected = (7, 6, 5) if 5 in shape else (7, 6, 1)
    assert read_image([path]).array.shape == (1, *expected)
    assert read_header(path).shape == expected


@pytest.mark.parametrize("left_handed", [False, True])
def test_oblique_affines_and_their_spacing_come_through(tmp_path: Path, left_handed: bool) -> None:
    affine = OBLIQUE * np.array([-1 if left_handed else 1, 1, 1, 1])
    volume = read_image([write_nifti(tmp_path / "a.nii.gz", _random(), affine)])
    np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
    np.testing.assert_allclose(volume.spacing, np.sqrt([0.8**2 + 0.25**2, 0.91, 6.26]), rtol=1e-6)


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e3), ("micron", 1e-3), ("mm", 1), ("unknown", 1)])
def test_positions_are_in_millimetres_whatever_the_header_counts_in(tmp_path: Path, unit: str, factor: float) -> None:
    image = nib.Nifti1Image(_random(), np.diag([2.0, 3.0, 4.0, 1.0]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    assert read_image([tmp_path / "a.nii"]).spacing == pytest.approx((2 * factor, 3 * factor, 4 * factor))


def test_header_tells_what_is_stored(tmp_path: Path) -> None:
    header = read_header(write_nifti(tmp_path / "a.nii.gz", _random(dtype=np.uint8), OBLIQUE))
    assert (header.shape, header.dtype) == ((7, 6, 5), np.dtype(np.uint8))
    np.testing.assert_allclose(header.affine, OBLIQUE, atol=1e-5)


def _refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_image([path])
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: ")
    assert "\n" not in problem
    for word in words:
        assert word in problem


def test_missing_empty_and_foreign_files_are_refused(tmp_path: Path) -> None:
    _refused(tmp_path / "none.nii.gz", "expected a NIfTI file, found none")
    (tmp_path / "empty.nii.gz").touch()
    _refused(tmp_path / "empty.nii.gz", "0 bytes")
    (tmp_path / "text.nii").write_text("this is no scan, but it is long enough " * 20)
    _refused(tmp_path / "text.nii", "came something else")
    (tmp_path / "plain.nii.gz").write_bytes(b"not compressed at all")
    _refused(tmp_path / "plain.nii.gz", "damaged", "copy it again")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, ending: str, share: float) -> None:
    path = write_nifti(tmp_path / f"a{ending}", _random((20, 20, 20)))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    _refused(path, "cut off")


def test_a_flipped_bit_is_noticed_by_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    stored = gzip.compress(nib.Nifti1Image(_random(), np.eye(4)).to_bytes(), compresslevel=0)
    middle = len(stored) // 2
    path.write_bytes(stored[:middle] + bytes([stored[middle] ^ 1]) + stored[middle + 1 :])
    _refused(path, "damaged", "CRC")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken(tmp_path: Path, ending: str) -> None:
    content = bytearray(nib.Nifti1Image(_random(), np.eye(4)).to_bytes())
    content[40:56] = struct.pack("<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)
    path = tmp_path / f"a{ending}"
    path.write_bytes(gzip.compress(bytes(content)) if ending == ".nii.gz" else bytes(content))
    _refused(path, "promises shape [32767, 32767, 32767]", "export it again")
    with pytest.raises(InputError, match="promises"):
        read_header(path)


def test_headers_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    content = bytearray(nib.Nifti1Image(_random(), np.eye(4)).to_bytes())
    path = tmp_path / "a.nii"
    for offset, replacement in (
        (40, struct.pack("<4h", 3, -7, 6, 5)),
        (40, struct.pack("<2h", 0, 0)),
        (70, struct.pack("<h", 12345)),
        (108, struct.pack("<f", float("nan"))),
        (280, struct.pack("<f", float("nan"))),
        (280, struct.pack("<4f", 0, 0, 0, 0)),
    ):
        changed = content.copy()
        changed[offset : offset + len(replacement)] = replacement
        path.write_bytes(changed)
        _refused(path)


def test_four_dimensions_complex_and_colour_are_refused(tmp_path: Path) -> None:
    _refused(write_nifti(tmp_path / "b.nii.gz", _random((7, 6, 5, 3, 2))), "came 5D of shape [7, 6, 5, 3, 2]")
    _refused(write_nifti(tmp_path / "a.nii.gz", _random((7, 6, 5, 3))), "expected a 3D scan", "[7, 6, 5, 3]")
    _refused(write_nifti(tmp_path / "b.nii.gz", np.ones((3, 3, 3), np.complex64)), "one real number per voxel")
    colour = np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    _refused(write_nifti(tmp_path / "c.nii.gz", colour), "one real number per voxel")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_voxels_that_are_not_finite_are_counted_and_located(tmp_path: Path, value: float) -> None:
    array = _random().astype(np.float64)
    array[1, 2, 3] = array[4, 0, 0] = value
    _refused(write_nifti(tmp_path / "a.nii.gz", array), "NaN or infinity in 2 voxel(s), the first at [1, 2, 3]")


def test_problems_of_all_channels_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_image([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"])
    assert len(caught.value.problems) == 2


def test_channels_on_other_grids_are_refused(tmp_path: Path) -> None:
    first = write_nifti(tmp_path / "a.nii.gz", _random())
    for other, words in (
        (
            write_nifti(tmp_path / "b.nii.gz", _random((7, 6, 4))),
            "expected shape [7, 6, 5] as a.nii.gz, came [7, 6, 4]",
        ),
        (write_nifti(tmp_path / "c.nii.gz", _random(), OBLIQUE), "resample it to the grid of a.nii.gz"),
    ):
        with pytest.raises(InputError) as caught:
            read_image([first, other])
        assert words in str(caught.value)


def _affine_message(tmp_path: Path, affine: np.ndarray) -> str:
    paths = [write_nifti(tmp_path / "a.nii", _random(), OBLIQUE), write_nifti(tmp_path / "b.nii", _random(), affine)]
    try:
        read_image(paths)
    except InputError as error:
        return str(error)
    return ""


def test_affine_mismatch_says_what_differs_and_tiny_differences_pass(tmp_path: Path) -> None:
    moved = OBLIQUE.copy()
    moved[2, 3] += 5e-4
    assert _affine_message(tmp_path, moved) == ""
    moved[2, 3] += 0.2
    assert "origin" in _affine_message(tmp_path, moved)
    assert "up to 0.2005 mm apart" in _affine_message(tmp_path, moved)
    assert "spacing" in _affine_message(tmp_path, OBLIQUE @ np.diag([1, 1, 1.01, 1]))
    assert "direction" in _affine_message(tmp_path, OBLIQUE @ np.diag([-1, 1, 1, 1]))


def test_labels_of_any_stored_type_are_uint8(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.int16, np.float32, np.float64, np.uint16):
        label = read_label(write_nifti(tmp_path / "a.nii.gz", (_random() % 4).astype(dtype)))
        assert (label.array.dtype, label.array.shape) == (np.uint8, (7, 6, 5))
        np.testing.assert_array_equal(label.array, _random() % 4)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.99, "expected whole numbers as labels, came 0.99 in 1 voxel(s), the first at [1, 2, 3]"),
        (np.nan, "expected whole numbers as labels, came nan"),
        (256, "expected label values from 0 to 255, came 256 in 1 voxel(s), the first at [1, 2, 3]"),
        (-1, "expected label values from 0 to 255, came -1"),
    ],
)
def test_labels_that_are_no_class_indices_are_refused(tmp_path: Path, value: float, words: str) -> None:
    array = np.zeros((7, 6, 5), dtype=np.float32)
    array[1, 2, 3] = value
    path = write_nifti(tmp_path / "a.nii.gz", array)
    with pytest.raises(InputError) as caught:
        read_label(path)
    assert words in str(caught.value)


def test_labels_that_went_through_16_bits_with_a_slope_are_whole(tmp_path: Path) -> None:
    for value in (1.00003, 3.9995):
        array = np.zeros((7, 6, 5), dtype=np.float32)
        array[1, 2, 3] = value
        label = read_label(write_nifti(tmp_path / "a.nii.gz", array))
        assert label.array[1, 2, 3] == round(value)


@pytest.mark.parametrize("code", ["sform", "qform"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_written_labels_lie_on_the_scan(tmp_path: Path, code: str, ending: str) -> None:
    image = nib.Nifti1Image(_random().astype(np.float32), None)
    rigid = np.diag([0.7, 0.8, 3.0, 1.0])
    rigid[:3, 3] = (-4, 5, 6)
    getattr(image, f"set_{code}")(rigid, 1)
    image.header.set_slope_inter(0.5, 7)
    image.header.set_xyzt_units("mm")
    reference = tmp_path / "scan.nii.gz"
    nib.save(image, reference)
    label = (_random() % 3).astype(np.uint8)
    write_label(tmp_path / f"out{ending}", label, reference)
    written, scan = nib.load(tmp_path / f"out{ending}"), nib.load(reference)
    assert written.get_data_dtype() == np.uint8
    for key in ("sform_code", "qform_code", "srow_x", "quatern_b", "pixdim", "xyzt_units"):
        np.testing.assert_array_equal(written.header[key], scan.header[key])
    np.testing.assert_array_equal(written.affine, scan.affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), label)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["scan.nii.gz", f"out{ending}"])


@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 1), (7, 6, 5, 1)])
def test_written_labels_have_the_shape_of_the_file_they_belong_to(tmp_path: Path, shape: tuple[int, ...]) -> None:
    reference = write_nifti(tmp_path / "scan.nii.gz", _random(shape))
    write_label(tmp_path / "out.nii.gz", np.ones(read_header(reference).shape, np.uint8), reference)
    assert nib.load(tmp_path / "out.nii.gz").shape == nib.load(reference).shape


def test_all_axis_orders_and_flips_come_back(tmp_path: Path) -> None:
    label = (_random() % 3).astype(np.uint8)
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        affine = np.eye(4)
        affine[:3, :3] = np.diag([0.5, 1.0, 2.0])[:, order] * np.array(signs)
        reference = write_nifti(tmp_path / "scan.nii", _random(), affine)
        write_label(tmp_path / "out.nii", label, reference)
        back = read_label(tmp_path / "out.nii")
        np.testing.assert_array_equal(back.array, label)
        np.testing.assert_allclose(back.affine, affine, atol=1e-6)


def test_equal_labels_are_equal_files(tmp_path: Path) -> None:
    reference = write_nifti(tmp_path / "scan.nii.gz", _random())
    for name in ("a", "b"):
        write_label(tmp_path / name / "out.nii.gz", _random(dtype=np.uint8), reference)
    assert (tmp_path / "a/out.nii.gz").read_bytes() == (tmp_path / "b/out.nii.gz").read_bytes()


def test_labels_that_cannot_be_written_are_a_bug(tmp_path: Path) -> None:
    reference = write_nifti(tmp_path / "scan.nii.gz", _random())
    with pytest.raises(ValueError, match="shape"):
        write_label(tmp_path / "out.nii.gz", np.zeros((7, 6, 4), np.uint8), reference)
    with pytest.raises(ValueError, match="whole numbers"):
        write_label(tmp_path / "out.nii.gz", np.full((7, 6, 5), 256), reference)
    assert not (tmp_path / "out.nii.gz").exists()
