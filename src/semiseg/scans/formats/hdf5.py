"""The benchmarks' HDF5 files: `image`, `label`, sometimes `scribble`; they record no geometry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.errors import InputError
from semiseg.scans.formats.arrays import array_header, array_volume
from semiseg.scans.formats.base import (
    DEFLATE_RATIO,
    Header,
    Request,
    Volume,
    check_channels,
    check_size,
    library,
    opened,
)

_BROKEN = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, OverflowError)


def read_header(path: Path, request: Request) -> Header:
    """What the file says of its array; nothing says where its voxels lie."""
    with _array(path, request.part) as array:
        return _header(path, array, request)


def read_volume(path: Path, request: Request) -> Volume:
    """Values `[C, X, Y, Z]` in the axis order of the file, 2D arrays with one slice."""
    with _array(path, request.part) as array:
        header = _header(path, array, request)
        check_channels(path, header, request)
        return array_volume(np.asarray(array[()]), header)


def parts_of(path: Path) -> tuple[str, ...]:
    """Names of the arrays in the file.

    Raises:
        InputError: it cannot be read.
    """
    h5py = library("h5py", "h5py", path)
    with opened(path, "an HDF5", _BROKEN), h5py.File(path, "r") as file:
        return tuple(file)


def read_array(path: Path, name: str) -> np.ndarray[Any, np.dtype[Any]]:
    """The array `name` of the file as it is stored.

    Raises:
        InputError: the file cannot be read, or has no such array.
    """
    with _array(path, name) as array:
        return np.asarray(array[()])


@contextmanager
def _array(path: Path, name: str) -> Iterator[Any]:
    h5py = library("h5py", "h5py", path)
    with opened(path, "an HDF5", _BROKEN), h5py.File(path, "r") as file:
        link = file.get(name, getlink=True)
        array = file.get(name) if isinstance(link, h5py.HardLink) else None
        if not isinstance(array, h5py.Dataset):
            found = ", ".join(file) or "nothing"
            raise InputError(f"{path}: expected an array {name!r}, came {found}: save it under that name")
        if array.is_virtual or array.external:
            raise InputError(f"{path}: expected the voxels of {name!r} in this file, came a link to others: copy them")
        ratio = DEFLATE_RATIO if array.chunks else 1
        held = min(int(array.id.get_storage_size()), path.stat().st_size)
        check_size(path, array.shape, array.dtype, held, ratio)
        yield array


def _header(path: Path, array: Any, request: Request) -> Header:
    return array_header(path, tuple(int(side) for side in array.shape), array.dtype, request)
