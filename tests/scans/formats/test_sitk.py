"""NRRD and MetaImage files as SimpleITK writes them, and as nobody should."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from scans.foreign import affine_of, directions, voxels, write_sitk
from semiseg.errors import InputError
from semiseg.scans.formats import all_files
from semiseg.scans.formats.base import kept_locale
from semiseg.scans.readers import read_channel, read_header, read_image, read_label, write_label

ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("compress", [False, True])
def test_voxels_and_places_come_back_for_every_direction(tmp_path: Path, ending: str, compress: bool) -> None:
    array = voxels()
    for direction in directions():
        affine = affine_of(direction)
        path = write_sitk(tmp_path / f"a{ending}", array, affine, compress=compress)
        volume = read_image([path])
        assert volume.array.dtype == np.int16
        np.testing.assert_array_equal(volume.array, array[None])
        np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
        assert volume.spacing == pytest.approx((0.7, 1.1, 2.5))
        header = read_header(path)
        assert (header.shape, header.dtype, header.channels, header.recorded) == ((7, 6, 5), np.int16, 1, True)
        np.testing.assert_array_equal(header.affine, volume.affine)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_label_written_beside_lies_where_sitk_says(tmp_path: Path, ending: str) -> None:
    """The file that is written says the same places in SimpleITK as the scan does."""
    for direction in list(directions())[1::7]:
        path = write_sitk(tmp_path / f"a{ending}", voxels(), affine_of(direction))
        label = (voxels() % 3).astype(np.uint8)
        write_label(tmp_path / "out.nii.gz", label, path)
        scan, written = sitk.ReadImage(str(path)), sitk.ReadImage(str(tmp_path / "out.nii.gz"))
        for index in ((0, 0, 0), (6, 5, 4), (3, 0, 2)):
            np.testing.assert_allclose(
                written.TransformIndexToPhysicalPoint(index), scan.TransformIndexToPhysicalPoint(index), atol=1e-4
            )
            assert written[index] == label[index]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_other_types_become_float32(tmp_path: Path, dtype: type) -> None:
    volume = read_image([write_sitk(tmp_path / "a.nrrd", voxels(dtype=dtype))])
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array[0], voxels())


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
def test_several_values_per_voxel_are_channels(tmp_path: Path, ending: str) -> None:
    array = voxels((3, 7, 6, 5))
    affine = affine_of(np.eye(3))
    path = write_sitk(tmp_path / f"a{ending}", array, affine)
    for channels in (None, 3):
        volume = read_image([path], channels=channels)
        np.testing.assert_array_equal(volume.array, array)
        np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(read_channel(path, 1).array, array[1])
    assert read_header(path).channels == 3
    with pytest.raises(InputError, match=r"expected 2 channel\(s\), came 3"):
        read_image([path], channels=2)
    with pytest.raises(InputError, match="expected one class index per voxel, came 3 values"):
        read_label(path)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_fourth_axis_is_channels_only_when_asked_for(tmp_path: Path, ending: str) -> None:
    array = voxels((4, 7, 6, 5))
    frames = sitk.JoinSeries([sitk.GetImageFromArray(frame.T) for frame in array])
    path = tmp_path / f"a{ending}"
    with kept_locale():
        sitk.WriteImage(frames, str(path))
    with pytest.raises(InputError, match=r"expected a 3D scan .* came 4D of shape \[7, 6, 5, 4\]: write every time"):
        read_image([path])
    np.testing.assert_array_equal(read_image([path], channels=4).array, array)


def test_time_frames_of_several_values_are_refused(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((2, 5, 6, 7, 3), np.float32), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    with pytest.raises(InputError, match=r"came 4D of shape \[7, 6, 5, 2\] with 3 value\(s\) per voxel"):
        read_header(tmp_path / "a.mha")


def test_flat_images_have_one_slice(tmp_path: Path) -> None:
    volume = read_image([write_sitk(tmp_path / "a.mha", voxels((7, 6)))])
    np.testing.assert_array_equal(volume.array[0, :, :, 0], voxels((7, 6)))
    np.testing.assert_array_equal(volume.affine, np.diag([-1, -1, 1, 1]))


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_data_files_belong_to_the_scan(tmp_path: Path, ending: str) -> None:
    path = write_sitk(tmp_path / f"a{ending}", voxels())
    assert all_files(path) == (path, tmp_path / "a.raw")
    (tmp_path / "a.raw").unlink()
    with pytest.raises(InputError, match=r"a\.raw: expected the voxels of a\."):
        read_header(path)


@pytest.mark.parametrize("name", ["/etc/hostname", "../a.raw", 100 * "long"])
def test_voxels_are_not_fetched_from_elsewhere(tmp_path: Path, name: str) -> None:
    path = write_sitk(tmp_path / "b" / "a.mhd", voxels())
    (tmp_path / "b" / "a.raw").rename(tmp_path / "a.raw")
    path.write_text(path.read_text().replace("a.raw", name))
    with pytest.raises(InputError, match="expected a data file beside it"):
        read_image([path])
    path.write_text(path.read_text().replace(name, "LIST"))
    with pytest.raises(InputError, match="expected one data file, came several"):
        read_image([path])


def test_spacing_that_is_not_recorded_is_known_to_be_assumed(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    path.write_bytes(b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 7 6 5\nencoding: raw\n\n" + bytes(210))
    assert not read_header(path).recorded
    volume = read_image([path], spacing=(0.5, 0.5, 3))
    assert (volume.spacing, volume.recorded) == ((0.5, 0.5, 3), False)


@pytest.mark.parametrize(
    ("ending", "old", "new"),
    [
        (".nrrd", b"sizes: 7 6 5", b"sizes: 9999 9999 9999"),
        (".mha", b"DimSize = 7 6 5", b"DimSize = 9999 9999 9999"),
        (".mhd", b"DimSize = 7 6 5", b"DimSize = 9999 9999 9999"),
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken(
    tmp_path: Path, ending: str, old: bytes, new: bytes, compress: bool
) -> None:
    path = write_sitk(tmp_path / f"a{ending}", voxels(), compress=compress)
    path.write_bytes(path.read_bytes().replace(old, new))
    for read in (read_header, lambda path: read_image([path])):
        with pytest.raises(InputError, match=r"promises shape \[9999, 9999, 9999, 1\] of int16, 1999400059998 bytes"):
            read(path)


@pytest.mark.parametrize("size", [b"99999999999", b"9" * 30])
def test_compressed_voxels_that_cannot_be_there_are_refused_before_memory_is_taken(tmp_path: Path, size: bytes) -> None:
    path = write_sitk(tmp_path / "a.mha", voxels(), compress=True)
    path.write_bytes(re.sub(rb"CompressedDataSize = \d+", b"CompressedDataSize = " + size, path.read_bytes()))
    with pytest.raises(InputError, match=r"expected 9+ bytes of compressed voxels, as the header says, came \d+ bytes"):
        read_image([path])


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("place", [0.5, 0.9, 0.999])
def test_damaged_compressed_voxels_are_refused(tmp_path: Path, ending: str, place: float) -> None:
    """ITK would return the rest."""
    path = write_sitk(tmp_path / f"a{ending}", voxels((20, 20, 20)), compress=True)
    read_image([path])
    file = all_files(path)[-1]
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 0x55
    file.write_bytes(content)
    with pytest.raises(InputError, match="compressed"):
        read_image([path])


@pytest.mark.parametrize("size", [b"0", b"3", b"-1", b"1e15", b"99999999999 1", b"0x7ff"])
def test_sizes_of_compressed_voxels_that_are_none_are_refused(tmp_path: Path, size: bytes) -> None:
    path = write_sitk(tmp_path / "a.mha", voxels(), compress=True)
    path.write_bytes(re.sub(rb"CompressedDataSize = \d+", b"CompressedDataSize = " + size, path.read_bytes()))
    with pytest.raises(InputError, match=r"compressed|CompressedDataSize"):
        read_image([path])


@pytest.mark.parametrize("axes", [b"100", b"-1", b"4294967299", b"1e30", b"99999999999"])
@pytest.mark.parametrize("before", [b"", b"NDims = 3\n"])
def test_more_axes_than_itk_has_room_for_are_refused(tmp_path: Path, before: bytes, axes: bytes) -> None:
    """Where SimpleITK reads the header, the process ends."""
    path = write_sitk(tmp_path / "a.mha", voxels())
    path.write_bytes(path.read_bytes().replace(b"NDims = 3", before + b" NDims : " + axes))
    with pytest.raises(InputError, match=f"NDims: expected 2 or 3 axes, came '{axes.decode()}'"):
        read_header(path)


@pytest.mark.parametrize(("ending", "line"), [(".mha", b"Comment = x\n"), (".nrrd", b"# x\n")])
def test_headers_that_do_not_end_are_refused(tmp_path: Path, ending: str, line: bytes) -> None:
    path = write_sitk(tmp_path / f"a{ending}", voxels())
    first, second, rest = path.read_bytes().split(b"\n", 2)
    begin = first + b"\n" + second + b"\n"
    path.write_bytes(begin + line * 1000 + rest)
    assert read_image([path]).array.shape == (1, 7, 6, 5)
    path.write_bytes(begin + line * 300_000 + rest)
    with pytest.raises(InputError, match="expected a header below 1048576 bytes"):
        read_header(path)


def test_nrrd_streams_by_other_tools(tmp_path: Path) -> None:
    values = voxels()
    head = b"NRRD0004\ntype: int16\ndimension: 3\nsizes: 7 6 5\nendian: little\nencoding: gzip\n\n"
    content = head + gzip.compress(values.astype("<i2").tobytes(order="F"))
    (tmp_path / "a.nrrd").write_bytes(content.replace(b"gzip", b"bzip2"))
    with pytest.raises(InputError, match="came bzip2: save it with gzip"):
        read_header(tmp_path / "a.nrrd")
    (tmp_path / "a.nrrd").write_bytes(content)
    np.testing.assert_array_equal(read_image([tmp_path / "a.nrrd"]).array[0], values)
    (tmp_path / "a.nrrd").write_bytes(content[:-3])
    with pytest.raises(InputError, match="whole"):
        read_image([tmp_path / "a.nrrd"])


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.99])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, ending: str, share: float) -> None:
    path = write_sitk(tmp_path / f"a{ending}", voxels((20, 20, 20)))
    cut = all_files(path)[-1]
    content = cut.read_bytes()
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError) as caught:
        read_image([path])
    (problem,) = caught.value.problems
    assert problem.startswith(f"{tmp_path / 'a'}.")
    assert "\n" not in problem


def test_other_content_complex_numbers_and_unknown_endings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_text("this is no scan")
    (tmp_path / "a.mha").write_text("nor is this")
    for name, kind in (("a.nrrd", "NRRD"), ("a.mha", "MetaImage")):
        with pytest.raises(InputError, match=f"expected a whole {kind} file, came a cut off or damaged one"):
            read_image([tmp_path / name])
    waves = sitk.GetImageFromArray(np.ones((3, 3, 3), np.complex64))
    with kept_locale():
        sitk.WriteImage(waves, str(tmp_path / "c.nrrd"))
    with pytest.raises(InputError, match=r"expected one real number per voxel|expected one class|channel"):
        read_label(tmp_path / "c.nrrd")
    with pytest.raises(InputError, match=r"expected a scan \(\.nii\.gz, .*came another ending: convert it"):
        read_image([tmp_path / "a.doc"])
    with pytest.raises(InputError, match=r"none\.mha: expected a MetaImage file, found none"):
        read_image([tmp_path / "none.mha"])


def test_what_is_not_installed_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sitk(tmp_path / "a.nrrd", voxels())
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    with pytest.raises(InputError, match=r"a\.nrrd: reading this format needs SimpleITK.*: pip install SimpleITK$"):
        read_image([path])
