"""PNG and TIFF: 2D images in grey values or colours; a TIFF with several pages is a volume."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.errors import InputError
from semiseg.scans.formats.base import (
    Header,
    Request,
    Volume,
    assumed_affine,
    check_channels,
    check_size,
    library,
    opened,
)

Array = np.ndarray[Any, np.dtype[Any]]

_RATIO = 1 << 12  # more than LZW and deflate can shrink anything
_TYPES = {
    "1": "u1",
    "L": "u1",
    "P": "u1",
    "RGB": "u1",
    "I;16": "u2",
    "I;16L": "u2",
    "I;16B": "u2",
    "I": "i4",
    "F": "f4",
}
_TOWARDS = np.diag([-1.0, -1.0, 1.0, 1.0])  # columns to the left, rows to the back: as ITK sees pictures
_BROKEN = (
    *(OSError, ValueError, TypeError, SyntaxError, EOFError, LookupError, AttributeError),
    *(ArithmeticError, AssertionError, RuntimeError, struct.error, zlib.error),
)
"""What pillow raises on damaged pictures."""

_ONE_AT_A_TIME = threading.Lock()
"""Filters of warnings are the whole process's."""


def read_header(path: Path, request: Request) -> Header:
    """What the file says of its picture; nothing says how large a pixel is."""
    with _picture(path) as picture:
        return _header(path, picture, request)


def read_volume(path: Path, request: Request) -> Volume:
    """Values `[C, X, Y, Z]`: X counts columns from the left, Y rows from the top, Z pages (one in PNG)."""
    with _picture(path) as picture:
        header = _header(path, picture, request)
        check_channels(path, header, request)
        pages = [_page(path, picture, number, request) for number in range(header.shape[2])]
    stacked = np.stack(pages, axis=2)  # rows, columns, pages[, colours]
    values = stacked.transpose(3, 1, 0, 2) if stacked.ndim == 4 else stacked.transpose(1, 0, 2)[None]
    return Volume(np.ascontiguousarray(values), header.affine, recorded=False)


@contextmanager
def _picture(path: Path) -> Iterator[Any]:
    image = library("PIL.Image", "pillow", path)
    broken = (*_BROKEN, image.DecompressionBombError)
    with _ONE_AT_A_TIME, warnings.catch_warnings(), opened(path, "a picture", broken):
        warnings.filterwarnings("ignore", module="PIL")  # of tags besides the voxels
        with image.open(path, formats=("PNG", "TIFF")) as picture:
            yield picture


def _header(path: Path, picture: Any, request: Request) -> Header:
    mode = str(picture.mode)
    colours = 3 if mode == "RGB" or (mode == "P" and request.part == "image") else 1
    deep = path.suffix.lower() == ".png" and colours == 3 and _png_depth(path) > 8
    if mode not in _TYPES or deep:
        raise InputError(
            f"{path}: expected grey values or RGB of 8 bits, came {f'16-bit {mode}' if deep else mode}: "
            "save it without an alpha channel, or one grey picture per channel"
        )
    shape = (*(int(side) for side in picture.size), int(getattr(picture, "n_frames", 1)))
    kind = np.dtype(_TYPES[mode])
    check_size(path, (*shape, colours), np.dtype(np.uint8), path.stat().st_size, _RATIO)
    affine = _TOWARDS @ assumed_affine(request)
    return Header(shape, affine, kind, colours, recorded=False)


def _png_depth(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(25)[24]


def _page(path: Path, picture: Any, number: int, request: Request) -> Array:
    if number:
        mode, size = picture.mode, picture.size
        picture.seek(number)
        if (picture.mode, picture.size) != (mode, size):
            raise InputError(f"{path}: expected pages of one kind and size, came several: save them one by one")
    if picture.mode == "P" and request.part == "image":
        return np.asarray(picture.convert("RGB"))
    values = np.asarray(picture)
    return values.astype(np.uint8) if values.dtype == bool else values
