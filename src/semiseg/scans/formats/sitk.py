"""NRRD and MetaImage files, attached or detached, by SimpleITK."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.errors import InputError
from semiseg.scans.formats.base import (
    DEFLATE_RATIO,
    Header,
    Request,
    Volume,
    assumed_affine,
    check_affine,
    check_channels,
    check_size,
    check_type,
    from_lps,
    library,
    opened,
)
from semiseg.scans.formats.detached import TextHeader, check_stream, text_header

Array = np.ndarray[Any, np.dtype[Any]]

_TYPE = re.compile(r"(?:vector of )?(\d+)-bit (unsigned integer|signed integer|float)")
_LETTER = {"unsigned integer": "u", "signed integer": "i", "float": "f"}


def read_header(path: Path, request: Request) -> Header:
    """What the file says of its scan."""
    return _open(path, request)[1]


def read_volume(path: Path, request: Request) -> Volume:
    """Values `[C, X, Y, Z]` as stored."""
    reader, header = _open(path, request)
    check_channels(path, header, request)
    check_stream(path, text_header(path), math.prod(header.shape) * header.channels * header.dtype.itemsize)
    with opened(path, _kind(path), (RuntimeError,)):
        image = reader.Execute()
    return Volume(values_of(image, header), header.affine, header.recorded)


def quiet(path: Path) -> Any:
    """SimpleITK, told to raise errors rather than to print them."""
    sitk = library("SimpleITK", "SimpleITK", path)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    return sitk


def values_of(image: Any, header: Header) -> Array:
    """Voxels of a SimpleITK image as `[C, X, Y, Z]`."""
    from SimpleITK import GetArrayFromImage

    array = GetArrayFromImage(image).T  # [C,] X, Y, Z or X, Y, Z, T
    if header.channels > 1 and not header.certain:
        array = np.moveaxis(array, -1, 0)
    return array.reshape((header.channels, *header.shape), order="F")


def type_of(path: Path, sitk: Any, pixel: int) -> np.dtype[Any]:
    """Stored type of a SimpleITK pixel id."""
    name = str(sitk.GetPixelIDValueAsString(pixel))
    match = _TYPE.fullmatch(name)
    if match is None:
        raise InputError(
            f"{path}: expected one real number per voxel, came {name}: convert the file to int16 or float32"
        )
    return np.dtype(f"{_LETTER[match[2]]}{int(match[1]) // 8}")


def _open(path: Path, request: Request) -> tuple[Any, Header]:
    sitk = quiet(path)
    reader = sitk.ImageFileReader()
    with opened(path, _kind(path), (RuntimeError,)):
        text = text_header(path)
        reader.SetImageIO(_KINDS[_kind(path)])  # by content: ITK knows endings in lower case only
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        kind = type_of(path, sitk, reader.GetPixelID())
    return reader, _header(path, reader, kind, text, request)


_KINDS = {"an NRRD": "NrrdImageIO", "a MetaImage": "MetaImageIO"}


def _kind(path: Path) -> str:
    return "an NRRD" if path.suffix.lower() in (".nrrd", ".nhdr") else "a MetaImage"


def _header(path: Path, reader: Any, kind: np.dtype[Any], text: TextHeader, request: Request) -> Header:
    size = tuple(int(side) for side in reader.GetSize())
    components = int(reader.GetNumberOfComponents())
    frames = size[3] if len(size) == 4 else 1
    if not 2 <= len(size) <= 4 or (components > 1 and frames > 1) or min(size) < 1:
        raise InputError(
            f"{path}: expected a 3D scan (or a 2D image), came {len(size)}D of shape {list(size)} with {components} "
            "value(s) per voxel: write every time point or channel to a file of its own"
        )
    check_type(path, kind)
    held = sum(file.stat().st_size for file in text.files or (path,))
    if text.held is not None and text.held > held:  # as much would be asked for
        raise InputError(
            f"{path}: expected {text.held} bytes of compressed voxels, as the header says, came {held} bytes in all: "
            "copy it again"
        )
    check_size(path, (*size, components), kind, held, DEFLATE_RATIO if text.packed else 1)
    affine = affine_of(reader) if text.recorded else assumed_affine(request)
    check_affine(path, affine)
    x, y, z = (*size, 1)[:3]
    return Header((x, y, z), affine, kind, components * frames, frames == 1, text.recorded)


@np.errstate(all="ignore")
def affine_of(reader: Any) -> Array:
    """RAS+ affine `[4, 4]` of an image or its reader; 2D images lie in the plane z = 0, 1 mm thick.

    What overflows is left to `check_affine`.
    """
    dims = int(reader.GetDimension())
    used = min(dims, 3)
    direction = np.array(reader.GetDirection()).reshape(dims, dims)[:used, :used]
    affine = np.eye(4)
    affine[:used, :used] = direction * np.array(reader.GetSpacing())[:used]
    affine[:used, 3] = np.array(reader.GetOrigin())[:used]
    return from_lps(affine)
