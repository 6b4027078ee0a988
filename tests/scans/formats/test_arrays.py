"""NumPy and HDF5 files: arrays without a place, and nothing that is executed."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from scans.foreign import voxels
from semiseg.errors import InputError
from semiseg.scans.formats.hdf5 import read_array
from semiseg.scans.readers import read_header, read_image, read_label, write_label

Write = Callable[..., Path]


def _npy(path: Path, image: np.ndarray, label: np.ndarray | None = None) -> Path:
    np.save(path.with_suffix(".npy"), image)
    return path.with_suffix(".npy")


def _npz(path: Path, image: np.ndarray, label: np.ndarray | None = None) -> Path:
    arrays = {"image": image} if label is None else {"image": image, "label": label}
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    return path.with_suffix(".npz")


def _h5(path: Path, image: np.ndarray, label: np.ndarray | None = None) -> Path:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file.create_dataset("image", data=image, compression="gzip")
        if label is not None:
            file.create_dataset("label", data=label, compression="gzip")
            file.create_dataset("scribble", data=label)
    return path.with_suffix(".h5")


def _refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_image([path])
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: ")
    assert "\n" not in problem
    for word in words:
        assert word in problem


@pytest.mark.parametrize("write", [_npy, _npz, _h5])
@pytest.mark.parametrize("fortran", [False, True])
def test_arrays_come_back_and_are_known_to_have_no_place(tmp_path: Path, write: Write, fortran: bool) -> None:
    array = np.asfortranarray(voxels()) if fortran else voxels()
    path = write(tmp_path / "a", array)
    volume = read_image([path])
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, voxels()[None])
    assert (volume.spacing, volume.recorded) == ((1, 1, 1), False)
    assert read_image([path], spacing=(0.5, 0.6, 7)).spacing == (0.5, 0.6, 7)
    header = read_header(path)
    assert (header.shape, header.dtype, header.channels, header.recorded) == ((7, 6, 5), np.int16, 1, False)


@pytest.mark.parametrize("write", [_npy, _npz, _h5])
def test_two_axes_are_a_slice_and_four_need_to_be_told(tmp_path: Path, write: Write) -> None:
    np.testing.assert_array_equal(read_image([write(tmp_path / "a", voxels((7, 6)))]).array[0, :, :, 0], voxels((7, 6)))
    array = voxels((3, 7, 6, 5))
    for stored in (array, np.moveaxis(array, 0, -1)):
        path = write(tmp_path / "b", stored)
        np.testing.assert_array_equal(read_image([path], channels=3).array, array)
        assert read_header(path).channels == 3
        _refused(path, "came 4D of shape [7, 6, 5, 3]", "name 3 channels")
    _refused(write(tmp_path / "c", np.ones((2, 2, 2, 2, 2))), "expected an array of 2 or 3 axes")
    _refused(write(tmp_path / "d", np.ones((2, 2), np.complex64)), "one real number per voxel")


@pytest.mark.parametrize("write", [_npz, _h5])
def test_image_and_label_may_share_a_file(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path / "a", voxels(dtype=np.float32), (voxels() % 3).astype(np.uint8))
    np.testing.assert_array_equal(read_image([path]).array[0], voxels())
    np.testing.assert_array_equal(read_label(path).array, voxels() % 3)
    only_image = write(tmp_path / "b", voxels())
    if write is _h5:
        with pytest.raises(InputError, match=r"expected an array 'label', came image: save it under that name"):
            read_label(only_image)
    else:
        np.testing.assert_array_equal(read_image([only_image]).array[0], voxels())


def test_a_label_on_an_array_is_written_with_the_given_spacing(tmp_path: Path) -> None:
    path = _npy(tmp_path / "a", voxels())
    write_label(tmp_path / "out.nii.gz", (voxels() % 2).astype(np.uint8), path, spacing=(0.5, 0.5, 3))
    written = read_label(tmp_path / "out.nii.gz")
    assert written.spacing == pytest.approx((0.5, 0.5, 3))
    np.testing.assert_array_equal(written.array, voxels() % 2)


def test_pickles_are_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
            return Path.touch, (tmp_path / "sprung",)

    objects = np.empty((2, 2), dtype=object)
    objects[:] = [[Trap(), Trap()], [Trap(), Trap()]]
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "b.npz", image=objects, allow_pickle=True)
    (tmp_path / "c.npy").write_bytes(pickle.dumps(Trap()))
    for name in ("a.npy", "b.npz", "c.npy"):
        _refused(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def _lying_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(100)


def test_headers_that_promise_too_much_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(_lying_header((99999, 9999, 999)))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("image.npy", _lying_header((99999, 9999, 999)))
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.create_dataset("image", shape=(99999, 9999, 999), dtype="f4")  # takes no space until it is written
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("image", shape=(99999, 9999, 999), dtype="f4", chunks=(9, 9, 9), compression="gzip")
    for name in ("a.npy", "b.npz", "c.h5", "d.h5"):
        _refused(tmp_path / name, "promises shape [99999, 9999, 999] of float32, 3995", "which cannot be in")
        with pytest.raises(InputError, match="promises"):
            read_header(tmp_path / name)


@pytest.mark.parametrize("write", [_npy, _npz, _h5])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.98])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, write: Write, share: float) -> None:
    path = write(tmp_path / "a", voxels((20, 20, 20), np.int32))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    _refused(path)


def test_a_flipped_bit_in_an_archive_is_noticed(tmp_path: Path) -> None:
    path = _npz(tmp_path / "a", voxels((20, 20, 20)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    _refused(path, "damaged")


def test_voxels_are_not_fetched_from_other_files(tmp_path: Path) -> None:
    other = _h5(tmp_path / "other", voxels())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = h5py.ExternalLink(str(other), "image")
    _refused(tmp_path / "a.h5", "expected an array 'image'")
    layout = h5py.VirtualLayout(shape=(7, 6, 5), dtype="i2")
    layout[:] = h5py.VirtualSource(str(other), "image", shape=(7, 6, 5))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_virtual_dataset("image", layout)
    _refused(tmp_path / "b.h5", "a link to others")


def test_archives_without_an_array_of_the_name_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", t1=voxels(), t2=voxels())
    with pytest.raises(InputError, match="expected an array named 'image', came t1, t2: save it under that name"):
        read_image([tmp_path / "a.npz"])


def test_named_arrays_are_read_as_they_are(tmp_path: Path) -> None:
    path = _h5(tmp_path / "a", voxels(), (voxels() % 4).astype(np.uint16))
    np.testing.assert_array_equal(read_array(path, "scribble"), voxels() % 4)
    with pytest.raises(InputError, match="expected an array 'mask', came image, label, scribble"):
        read_array(path, "mask")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("la_h5/0RZDK210BSMWAA6467LU/mri_norm2.h5", (199, 143, 88)),
        ("acdc_h5/volumes/patient002_frame01.h5", (10, 256, 232)),
        ("acdc_h5/slices/patient002_frame01_slice_0.h5", (256, 232, 1)),
    ],
)
def test_the_benchmarks_files(real_data: Path, name: str, shape: tuple[int, ...]) -> None:
    path = real_data / "formats" / name
    with h5py.File(path) as file:
        np.testing.assert_array_equal(read_image([path]).array[0].reshape(file["image"].shape), file["image"])
        np.testing.assert_array_equal(read_label(path).array.reshape(file["label"].shape), file["label"])
    assert read_header(path).shape == shape
