"""Files that say of themselves what is not so: refused before a library believes them."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from scans.foreign import affine_of, voxels, write_dicom, write_sitk
from semiseg.errors import InputError
from semiseg.scans.formats import base
from semiseg.scans.formats import dicom_elements as elements
from semiseg.scans.readers import read_header, read_image
from tiny import write_nifti


def _refused(path: Path, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_image([path])
    (problem,) = caught.value.problems
    assert problem.startswith(str(path))


def _slice(folder: Path) -> Path:
    return write_dicom(folder, voxels((8, 8, 1)), affine_of(np.eye(3))) / "000.dcm"


PERSON = b"\x10\x00\x10\x00"
"""Tag of an element that `_slice` writes, without a kind before its length."""


def _element(tag: bytes, length: int, value: bytes = b"", kind: bytes = b"") -> bytes:
    return tag + kind + struct.pack("<I", length) + value


def test_dicom_elements_are_no_longer_than_their_file(tmp_path: Path) -> None:
    """GDCM takes the memory that an element claims before it reads: 10 GiB for a file of 1 kB."""
    path = _slice(tmp_path / "a")
    content = path.read_bytes()
    at = content.index(PERSON)
    path.write_bytes(content[:at] + _element(PERSON, 0xF0000000) + content[at + 8 :])
    _refused(path, "element 0010,0010 claims 4026531840 bytes")
    with pytest.raises(InputError, match=r"1 DICOM file\(s\) that are damaged or no image, such as 000\.dcm"):
        read_header(tmp_path / "a")


def test_dicom_elements_end_with_the_file_or_with_zeros(tmp_path: Path) -> None:
    """What stands behind zeros is not walked through here, and GDCM reads on."""
    path = _slice(tmp_path / "a")
    content = path.read_bytes()
    path.write_bytes(content + bytes(512))
    assert read_image([path]).array.shape == (1, 8, 8, 1)
    at = content.index(PERSON)
    path.write_bytes(content[:at] + bytes(8) + content[at:])
    _refused(path, "zeros came in the place of an element")


def test_dicom_elements_of_unknown_kind_are_refused(tmp_path: Path) -> None:
    """After letters that stand for nothing, GDCM takes up to 2 GiB."""
    path = _slice(tmp_path / "a")
    content = path.read_bytes()
    assert content.count(b"\x02\0\x10\0UI") == 1
    path.write_bytes(content.replace(b"\x02\0\x10\0UI", b"\x02\0\x10\0UA"))
    _refused(path, "element 0002,0010 is of no known kind")


def test_a_dicom_file_without_voxels_is_refused_before_gdcm_reads_it(tmp_path: Path) -> None:
    path = _slice(tmp_path / "a")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\xe0\x7f\x10\x00")])
    _refused(path, "came one without")


@pytest.mark.parametrize("explicit", [False, True])
def test_dicom_sequences_are_walked_through(tmp_path: Path, explicit: bool) -> None:
    path = _slice(tmp_path / "a")
    content, tag, item, name = path.read_bytes(), b"\x08\0\x40\x11", b"\xfe\xff\x00\xe0", b"\x08\0\x05\0"
    if explicit:
        at = content.index(b"\x02\0\x10\0UI") + 8
        content = content[: at - 2] + struct.pack("<H", 20) + b"1.2.840.10008.1.2.1\0"
        kinds = {"SQ": b"SQ\0\0", "UT": b"UT\0\0"}
    else:
        content = content[: content.index(PERSON)]
        kinds = {"SQ": b"", "UT": b""}
    lie = _element(name, 0x7FFFFFFF, kind=kinds["UT"])
    end = b"\xfe\xff\xdd\xe0\0\0\0\0"
    packed = _element(item, len(lie), lie)
    for sequence in (
        _element(tag, 0xFFFFFFFF, packed + end, kinds["SQ"]),
        _element(tag, 0xFFFFFFFF, _element(item, 0xFFFFFFFF, lie) + end, kinds["SQ"]),
        _element(tag, len(packed), packed, kinds["SQ"]),
    ):
        path.write_bytes(content + sequence)
        _refused(path, "element 0008,0005 claims 2147483647 bytes")
    true = _element(item, 12, _element(name, 0, kind=kinds["UT"]).ljust(12, b"\0")[:12])
    if explicit:
        path.write_bytes(content + _element(tag, len(true), true, kinds["SQ"]))
        assert not elements.walk(path).packed
    path.write_bytes(content + _element(tag, 0xFFFFFFFF, _element(item, 0xFFFFFFFF), kinds["SQ"]) * 40)
    _refused(path, "nested too deeply")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("offset", [1e9, 3e38, float("nan"), -400.0])
def test_nifti_voxels_begin_after_a_header_of_some_size(tmp_path: Path, ending: str, offset: float) -> None:
    content = bytearray(nib.Nifti1Image(voxels(), np.eye(4)).to_bytes())
    content[108:112] = struct.pack("<f", offset)
    path = tmp_path / f"a{ending}"
    path.write_bytes(gzip.compress(bytes(content)) if ending == ".nii.gz" else bytes(content))
    _refused(path, "expected voxels after a header")


def test_what_follows_the_voxels_of_a_packed_nifti_is_not_read_for_ever(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", voxels())
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content + bytes(1000)))
    assert read_image([path]).array.shape == (1, 7, 6, 5)
    path.write_bytes(gzip.compress(content + bytes(5 << 20)))
    _refused(path, "expected the end of the file after its voxels, came more")


def test_what_the_machine_does_not_have_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sitk(tmp_path / "a.nrrd", voxels())
    assert read_image([path]).array.size == 210
    monkeypatch.setattr(base, "total_memory", lambda: 400)
    _refused(path, "420 bytes, which is more than this machine has")


@pytest.mark.parametrize("spacing", ["1e-300", "1e300", "1e9", "nan"])
def test_places_are_on_this_planet(tmp_path: Path, spacing: str) -> None:
    path = write_sitk(tmp_path / "a.mha", voxels())
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 1 1 1", f"ElementSpacing = 1 1 {spacing}".encode()))
    with pytest.raises(InputError):
        read_image([path])


def test_directions_of_slices_that_overflow_are_refused_without_a_warning(tmp_path: Path) -> None:
    folder = write_dicom(tmp_path / "a", voxels(), affine_of(np.eye(3)))
    tag, value = b"\x20\0\x37\0", b"1e200\\0\\0\\0\\1e200\\0 "
    for path in folder.iterdir():
        content = path.read_bytes()
        at = content.index(tag)
        (length,) = struct.unpack_from("<I", content, at + 4)
        path.write_bytes(content[:at] + _element(tag, len(value), value) + content[at + 8 + length :])
    _refused(folder, "an affine that gives every voxel a place of its own")


def test_numbers_that_overflow_are_refused_without_a_warning(tmp_path: Path) -> None:
    path = write_sitk(tmp_path / "a.mha", voxels())
    content = path.read_bytes().replace(b"ElementSpacing = 1 1 1", b"ElementSpacing = 1 1 1e308")
    path.write_bytes(content.replace(b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 1 0 0 0 1 0 0 0 1e9"))
    _refused(path, "an affine that gives every voxel a place of its own")


def test_a_numpy_header_that_ends_early_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", voxels())
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content.replace(b"'shape': (7, 6, 5), }", b"'shape': (7L, 6, 5,  "))
    _refused(tmp_path / "a.npy", "cut off or damaged")


@pytest.mark.parametrize("version", [b"\x02\x00", b"\x11\x00"])
def test_the_length_of_a_numpy_header_takes_no_memory(tmp_path: Path, version: bytes) -> None:
    np.save(tmp_path / "a.npy", voxels())
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:6] + version + b"\xf0\xff\xff\x7f" + content[10:])
    tracemalloc.start()
    _refused(tmp_path / "a.npy", "cut off or damaged")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 26


def test_odd_tags_of_a_picture_are_no_matter_and_odd_sizes_are(tmp_path: Path) -> None:
    Image.fromarray(voxels((6, 7), np.uint8)).save(tmp_path / "a.tif")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    for entry in range(struct.unpack_from("<H", content, start)[0]):
        at = start + 2 + 12 * entry
        if struct.unpack_from("<H", content, at)[0] in (256, 257):  # width, height
            struct.pack_into("<HHI", content, at, 65000, 3, 1)
    (tmp_path / "a.tif").write_bytes(content)
    _refused(tmp_path / "a.tif", "cut off or damaged one")
