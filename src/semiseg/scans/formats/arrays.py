"""NumPy files, `.npy` and `.npz`, without pickle; and arrays of other files that record no geometry."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from semiseg.errors import InputError
from semiseg.scans.formats.base import (
    DEFLATE_RATIO,
    Header,
    Request,
    Volume,
    assumed_affine,
    check_channels,
    check_size,
    check_type,
    opened,
)

Array = np.ndarray[Any, np.dtype[Any]]

_LONGEST_HEADER = 1 << 16

BROKEN = (
    *(OSError, EOFError, ValueError, SyntaxError, TypeError, LookupError, OverflowError, NotImplementedError),
    *(zlib.error, zipfile.BadZipFile, tokenize.TokenError),
)
"""What NumPy and zipfile raise on damaged files; `NotImplementedError` stands for unknown ways of compression."""


def read_header(path: Path, request: Request) -> Header:
    """What the file says of its array; nothing says where its voxels lie."""
    with opened(path, "a NumPy", BROKEN):
        if path.name.lower().endswith(".npy"):
            return array_header(path, *_npy_header(path), request)
        with zipfile.ZipFile(path) as archive:
            return array_header(path, *_member_header(path, archive, _member(path, archive, request)), request)


def read_volume(path: Path, request: Request) -> Volume:
    """Values `[C, X, Y, Z]` as stored, 2D arrays with one slice; several channels lie along the first or last axis."""
    with opened(path, "a NumPy", BROKEN):
        if path.name.lower().endswith(".npy"):
            header = array_header(path, *_npy_header(path), request)
            check_channels(path, header, request)
            values = np.load(path, allow_pickle=False)
        else:
            with zipfile.ZipFile(path) as archive:
                member = _member(path, archive, request)
                header = array_header(path, *_member_header(path, archive, member), request)
                check_channels(path, header, request)
                with archive.open(member) as file:
                    values = np.lib.format.read_array(cast(BinaryIO, file), allow_pickle=False)
    return array_volume(values, header)


def parts_of(path: Path) -> tuple[str, ...]:
    """Names of the arrays in an `.npz` file.

    Raises:
        InputError: it cannot be read.
    """
    with opened(path, "a NumPy", BROKEN), zipfile.ZipFile(path) as archive:
        return tuple(name.removesuffix(".npy") for name in archive.namelist())


def array_header(path: Path, shape: tuple[int, ...], kind: np.dtype[Any], request: Request) -> Header:
    """Header of an array of 2 or 3 axes, or of 4 of which the first or last counts channels."""
    check_type(path, kind)
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        raise InputError(
            f"{path}: expected an array of 2 or 3 axes, or 4 with channels first or last, came shape {list(shape)}: "
            "save every scan on its own"
        )
    first = len(shape) == 4 and _channels_first(shape, request)
    spatial = (shape[1:] if first else shape[:3]) if len(shape) == 4 else (*shape, 1)[:3]
    channels = math.prod(shape) // math.prod(spatial)
    return Header(spatial, assumed_affine(request), kind, channels, certain=False, recorded=False)


def array_volume(values: Array, header: Header) -> Volume:
    """The array that `header` was made of as a volume `[C, X, Y, Z]`."""
    if values.ndim == 4 and values.shape[1:] != header.shape:
        values = np.moveaxis(values, -1, 0)
    return Volume(values.reshape(header.channels, *header.shape), header.affine, recorded=False)


def _channels_first(shape: tuple[int, ...], request: Request) -> bool:
    if request.channels in (shape[0], shape[-1]):
        return shape[0] == request.channels
    return shape[0] <= shape[-1]


def _npy_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with path.open("rb") as file:
        shape, kind, begin = _format_header(file)
    check_size(path, shape, kind, path.stat().st_size - begin)
    return shape, kind


def _member_header(path: Path, archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    info = archive.getinfo(member)
    with archive.open(info) as file:
        shape, kind, _ = _format_header(cast(BinaryIO, file))
    stored = min(info.compress_size, path.stat().st_size)
    check_size(path, shape, kind, stored, 1 if info.compress_type == zipfile.ZIP_STORED else DEFLATE_RATIO)
    return shape, kind


def _format_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape and type of an array, and the byte where its values begin."""
    head = io.BytesIO(file.read(_LONGEST_HEADER))  # gives no more than there is, whatever its length asks for
    version = np.lib.format.read_magic(head)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(head)
    return tuple(int(side) for side in shape), kind, head.tell()


def _member(path: Path, archive: zipfile.ZipFile, request: Request) -> str:
    names = archive.namelist()
    wanted = f"{request.part}.npy"
    if wanted in names:
        return wanted
    if len(names) == 1:
        return names[0]
    found = ", ".join(name.removesuffix(".npy") for name in names) or "nothing"
    raise InputError(f"{path}: expected an array named {request.part!r}, came {found}: save it under that name")
