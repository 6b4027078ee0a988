"""NIfTI files that may lie, be cut off or damaged, opened without trusting them before they are checked."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError
from nibabel.wrapstruct import WrapStructError

from semiseg.errors import InputError
from semiseg.scans.formats.base import (
    DEFLATE_RATIO,
    Header,
    Request,
    Volume,
    check_affine,
    check_channels,
    check_size,
    check_type,
    opened,
)

Array = np.ndarray[Any, np.dtype[Any]]

_KINDS: dict[int, type[nib.Nifti1Image]] = {
    348: nib.Nifti1Image,
    540: nib.Nifti2Image,
}  # by size of the header in bytes
_OFFSETS = {nib.Nifti1Image: (108, "f"), nib.Nifti2Image: (168, "q")}
"""Where the header says where the voxels begin, and as which number."""
_LONGEST_HEADER = 1 << 24
_LONGEST_REST = 1 << 20
_UNIT_BITS = 0b111
_MM = {1: 1e3, 3: 1e-3}  # by unit code; 1 is metres, 3 microns, and what is unknown is taken for mm
_VECTOR = 1007  # intent code of several values per voxel
_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
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


def read_header(path: Path, request: Request) -> Header:
    """What the file says of its scan; a 2D image has one slice, axes of length one are dropped."""
    with _opened(path) as (image, _):
        return header_of(image)


def read_volume(path: Path, request: Request) -> Volume:
    """Values `[C, X, Y, Z]` with the header's scaling applied, and the affine; channels lie along the fourth axis.

    The stored type is kept where the scaling is the identity. A compressed file is read to its end, so that a wrong
    checksum is noticed.

    Raises:
        InputError: as `read_header`, or the file has other channels than `request` says.
    """
    with _opened(path) as (image, stream):
        header = header_of(image)
        check_channels(path, header, request)
        proxy = cast(Any, image.dataobj)
        identity = (proxy.slope, proxy.inter) == (1.0, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, and found by the readers
            values = proxy.get_unscaled() if identity else np.asarray(proxy, dtype=np.float32)
        if isinstance(values, np.memmap):
            values = np.array(values)
        rest = 0
        while isinstance(stream, gzip.GzipFile) and (read := len(stream.read(_CHUNK))):
            rest += read
            if rest > _LONGEST_REST:  # which may go on for terabytes
                raise InputError(f"{path}: expected the end of the file after its voxels, came more: export it again")
        values = values.reshape((*header.shape, header.channels), order="A")
        oriented = bool(header.nifti["sform_code"] > 0 or header.nifti["qform_code"] > 0)
        return Volume(np.moveaxis(values, -1, 0), header.affine, oriented=oriented)


def label_image(label: Array, header: Any) -> nib.Nifti1Image:
    """Class indices `[X, Y, Z]`, uint8, with the place, the number of axes and the notes of the scan of `header`."""
    kind: Any = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    kept = header.copy()
    kept.set_data_dtype(np.uint8)
    kept.set_slope_inter(1, 0)
    kept["cal_min"] = kept["cal_max"] = 0
    found: nib.Nifti1Image = kind(label.reshape(header.get_data_shape()), header.get_best_affine(), kept)
    return found


def header_of(image: nib.Nifti1Image) -> Header:
    """The part of a checked header that is used."""
    shape = tuple(int(side) for side in image.shape)
    x, y, z = (*shape, 1)[:3]
    own: Any = image.header
    certain, channels = int(own["intent_code"]) == _VECTOR, math.prod(shape[3:])
    return Header((x, y, z), _affine_mm(image), _stored_type(image), channels, certain, nifti=own.copy())


def _stored_type(image: nib.Nifti1Image) -> np.dtype[Any]:
    """Type of the numbers in the file, before any scaling."""
    return cast("np.dtype[Any]", cast(Any, image).get_data_dtype())


def _affine_mm(image: nib.Nifti1Image) -> Array:
    """Voxel indices -> RAS+ position in mm, `[4, 4]`, also where the header counts in metres or microns."""
    affine = np.array(image.affine, dtype=np.float64)
    unit = int(cast(Any, image.header)["xyzt_units"]) & _UNIT_BITS
    affine[:3] *= _MM.get(unit, 1.0)
    return affine


@contextmanager
def _opened(path: Path) -> Iterator[tuple[nib.Nifti1Image, io.BufferedIOBase]]:
    """The image in `path` with its header checked, and the stream of its voxels, unpacked whatever its ending says:
    browsers unpack what they save, and keep the name.
    """
    with opened(path, "a NIfTI", _BROKEN), path.open("rb") as file:
        packed = file.read(2) == _GZIP
        file.seek(0)
        with cast(io.BufferedIOBase, gzip.GzipFile(fileobj=file)) if packed else nullcontext(file) as stream:
            with np.errstate(all="ignore"):  # what a damaged header makes overflow is refused below
                image = _kind(stream, path).from_stream(stream)
                _check_header(image, path, packed=packed)
            yield image, stream


def _kind(stream: io.BufferedIOBase, path: Path) -> type[nib.Nifti1Image]:
    start = stream.read(540)
    stream.seek(0)
    for order, sign in (("little", "<"), ("big", ">")):
        kind = _KINDS.get(int.from_bytes(start[:4], cast(Any, order)))
        if kind:
            place, form = _OFFSETS[kind]
            (offset,) = struct.unpack_from(sign + form, start.ljust(540, b"\0"), place)
            if not 0 <= offset <= _LONGEST_HEADER:  # everything before it is read into memory
                raise InputError(
                    f"{path}: expected voxels after a header, came {offset:g} bytes before them: export it again"
                )
            return kind
    if start.startswith(_GZIP):
        raise InputError(
            f"{path}: expected a NIfTI file, came one that is compressed twice: unpack it once, with gunzip"
        )
    raise InputError(
        f"{path}: expected a NIfTI file, came something else or a damaged one: copy it again, or convert it"
    )


def _check_header(image: nib.Nifti1Image, path: Path, *, packed: bool) -> None:
    shape = tuple(int(side) for side in image.shape)
    if not 2 <= len(shape) <= 7 or min(shape) < 1 or sum(side > 1 for side in shape[3:]) > 1:
        raise InputError(
            f"{path}: expected a 3D scan (or a 2D image), came {len(shape)}D of shape {list(shape)}: "
            "write every time point or channel to a file of its own"
        )
    kind = _stored_type(image)
    check_type(path, kind)
    offset = 0 if packed else int(cast(Any, image.header).get_data_offset())
    check_size(path, shape, kind, path.stat().st_size - offset, DEFLATE_RATIO if packed else 1)
    check_affine(path, image.affine)
