"""Opening NIfTI files that may lie, be cut off or damaged, without trusting them before they are checked."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError
from nibabel.wrapstruct import WrapStructError

from semiseg.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]

ENDINGS = (".nii.gz", ".nii")

_KINDS: dict[int, type[nib.Nifti1Image]] = {
    348: nib.Nifti1Image,
    540: nib.Nifti2Image,
}  # by size of the header in bytes
_UNIT_BITS = 0b111
_MM = {1: 1e3, 3: 1e-3}  # by unit code; 1 is metres, 3 microns, and what is unknown is taken for mm
_DEFLATE_RATIO = 1032  # the most that deflate can shrink anything
_SLACK = 1 << 16
_CHUNK = 1 << 20
_BROKEN = (
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    OverflowError,
    ImageFileError,
    HeaderDataError,
    HeaderTypeError,
    WrapStructError,
)


def open_header(path: Path) -> nib.Nifti1Image:
    """The image in `path` with its header checked; its voxels are not read and cannot be.

    Raises:
        InputError: the file is missing, empty, cut off, damaged, or no NIfTI file of one scan.
    """
    with _opened(path) as (image, _):
        return image


def read_voxels(path: Path) -> tuple[Array, Array]:
    """Values `[X, Y, Z]` with the header's scaling applied, and the affine (voxel indices -> RAS+ mm).

    The stored type is kept where the scaling is the identity. A compressed file is read to its end, so that a wrong
    checksum is noticed.

    Raises:
        InputError: as `open_header`.
    """
    with _opened(path) as (image, stream):
        proxy = cast(Any, image.dataobj)
        identity = (proxy.slope, proxy.inter) == (1.0, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, and found by the readers
            values = proxy.get_unscaled() if identity else np.asarray(proxy, dtype=np.float32)
        if isinstance(values, np.memmap):
            values = np.array(values)
        while isinstance(stream, gzip.GzipFile) and stream.read(_CHUNK):
            pass
        return cast(Array, values.reshape(volume_shape(image))), affine_mm(image)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[nib.Nifti1Image, io.BufferedIOBase]]:
    try:
        if not path.is_file():
            raise InputError(f"{path}: expected a NIfTI file, found none: add the file or remove the case")
        size = path.stat().st_size
        if size == 0:
            raise InputError(f"{path}: expected a NIfTI file, came an empty one (0 bytes): copy it again")
        with _stream(path) as stream:
            with np.errstate(all="ignore"):  # what a damaged header makes overflow is refused below
                image = _kind(stream, path).from_stream(stream)
                _check_header(image, path, size)
            yield image, stream
    except PermissionError as error:
        raise InputError(f"{path}: expected a readable file, came {error.strerror}: change its permissions") from error
    except _BROKEN as error:
        raise InputError(
            f"{path}: expected a whole NIfTI file, came a cut off or damaged one ({_reason(error)}): copy it again"
        ) from error
    except MemoryError as error:
        raise InputError(
            f"{path}: the scan does not fit into memory: free some, or crop or resample the scan"
        ) from error


def volume_shape(image: nib.Nifti1Image) -> tuple[int, int, int]:
    """Sides of the scan in voxels; a 2D image has one slice, and further axes of length one are dropped."""
    x, y, z = (*(int(side) for side in image.shape), 1)[:3]
    return x, y, z


def stored_type(image: nib.Nifti1Image) -> np.dtype[Any]:
    """Type of the numbers in the file, before any scaling."""
    return cast("np.dtype[Any]", cast(Any, image).get_data_dtype())


def affine_mm(image: nib.Nifti1Image) -> Array:
    """Voxel indices -> RAS+ position in mm, `[4, 4]`, also where the header counts in metres or microns."""
    affine = np.array(image.affine, dtype=np.float64)
    unit = int(cast(Any, image.header)["xyzt_units"]) & _UNIT_BITS
    affine[:3] *= _MM.get(unit, 1.0)
    return affine


def _stream(path: Path) -> io.BufferedIOBase:
    return cast(io.BufferedIOBase, gzip.open(path) if path.name.endswith(".gz") else path.open("rb"))


def _kind(stream: io.BufferedIOBase, path: Path) -> type[nib.Nifti1Image]:
    start = stream.read(4)
    stream.seek(0)
    for order in ("little", "big"):
        kind = _KINDS.get(int.from_bytes(start, cast(Any, order)))
        if kind:
            return kind
    raise InputError(f"{path}: expected a NIfTI file, came something else: convert it to .nii.gz")


def _check_header(image: nib.Nifti1Image, path: Path, size: int) -> None:
    shape = tuple(int(side) for side in image.shape)
    if not 2 <= len(shape) <= 7 or min(shape) < 1 or math.prod(shape[3:]) != 1:
        raise InputError(
            f"{path}: expected a 3D scan (or a 2D image), came {len(shape)}D of shape {list(shape)}: "
            "write every time point or channel to a file of its own"
        )
    kind = stored_type(image)
    if kind.kind not in "iuf":
        raise InputError(
            f"{path}: expected one real number per voxel, came {kind}: convert the file to int16 or float32"
        )
    promised = math.prod(shape) * kind.itemsize + int(cast(Any, image.header).get_data_offset())
    held = size * _DEFLATE_RATIO + _SLACK if path.name.endswith(".gz") else size
    if promised > held:
        raise InputError(
            f"{path}: its header promises shape {list(shape)} of {kind}, {promised} bytes, which cannot be in "
            f"a file of {size} bytes: the file is cut off or its header is wrong; copy or export it again"
        )
    affine = image.affine
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise InputError(
            f"{path}: expected an affine that gives every voxel a place of its own, came {_flat(affine)}: "
            "export the scan again, with its spacing and orientation"
        )


def _flat(affine: Array) -> str:
    return str(np.array2string(affine[:3], precision=4, separator=",")).replace("\n", "")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
