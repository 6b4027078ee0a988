"""A DICOM series: a folder of slices, or one file of them. Tags that name people are neither read nor kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.data.formats.base import (
    DEFLATE_RATIO,
    Header,
    Request,
    Volume,
    check_affine,
    check_channels,
    check_size,
    check_type,
    from_lps,
    opened,
)
from semiseg.data.formats.elements import Elements, walk
from semiseg.data.formats.sitk import affine_of, quiet, type_of, values_of
from semiseg.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]

_POSITION, _ORIENTATION, _SPACING = "0020|0032", "0020|0037", "0028|0030"
_MODALITY, _BITS = "0008|0060", "0028|0100"
_TOLERANCE = 0.05  # of the distance between slices


@dataclass(frozen=True)
class _Slice:
    """One file: where it lies along its series (LPS mm), and the reader that has its header."""

    path: Path
    position: Array
    orientation: Array
    reader: Any


def read_header(path: Path, request: Request) -> Header:
    """What the series says of its scan."""
    return _open(path)[0]


def read_volume(path: Path, request: Request) -> Volume:
    """Values `[C, X, Y, Z]` with the files' scaling applied; slices in the order of their positions."""
    header, files = _open(path)
    check_channels(path, header, request)
    sitk = quiet(path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in files])
    with opened(files[0], "a DICOM", (RuntimeError,)):
        image = reader.Execute() if len(files) > 1 else sitk.ReadImage(str(files[0]))
    return Volume(values_of(image, header), header.affine)


def modality(path: Path) -> str:
    """Modality of a series, such as `CT` or `MR`; empty when it says none."""
    return _tag(_read(quiet(path), series_files(path)[0]), _MODALITY)


def series_files(path: Path) -> tuple[Path, ...]:
    """The files of the one series in `path`, in no particular order.

    Raises:
        InputError: there is none, or more than one.
    """
    if path.is_file():
        return (path,)
    found: dict[str, list[Path]] = {}
    lost = []
    for file in sorted(path.iterdir()):
        if is_dicom(file):
            try:
                elements = _elements(file)
            except InputError:
                elements = None
            if elements is None or not elements.image:
                lost.append(file.name)
            else:
                found.setdefault(elements.series, []).append(file)
    if not found and not lost:
        raise InputError(f"{path}: expected a folder with a DICOM series, found none in it: check the path")
    if len(found) > 1:
        parts = "; ".join(
            f"{uid} ({len(files)} files, such as {files[0].name})" for uid, files in sorted(found.items())
        )
        raise InputError(
            f"{path}: expected one DICOM series, came {len(found)}: {parts}: move each to a folder of its own"
        )
    if lost:
        raise InputError(
            f"{path}: expected slices of one series only, came {len(lost)} DICOM file(s) that are damaged or no image, "
            f"such as {lost[0]}: copy them again, or move them elsewhere"
        )
    return tuple(next(iter(found.values())))


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its name or its first bytes; the index of a medium is none."""
    if not path.is_file() or path.name.upper() == "DICOMDIR":
        return False
    if path.suffix.lower() == ".dcm":
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


@np.errstate(all="ignore")
def _open(path: Path) -> tuple[Header, tuple[Path, ...]]:
    """Header and ordered files of a series; places that overflow are left to `check_affine`."""
    files = series_files(path)
    sitk = quiet(path)
    if len(files) == 1:
        reader = _read(sitk, files[0])
        return _header(path, sitk, [reader], affine_of(reader), reader.GetSize()), files
    slices = _sorted(path, [_slice(path, sitk, file) for file in files])
    first = slices[0].reader
    size = (*first.GetSize()[:2], len(slices))
    header = _header(path, sitk, [item.reader for item in slices], _affine(slices), size)
    return header, tuple(item.path for item in slices)


def _elements(file: Path) -> Elements:
    with opened(file, "a DICOM", (OSError, ValueError)):
        return walk(file)


def _read(sitk: Any, file: Path) -> Any:
    if not _elements(file).image:
        raise InputError(f"{file}: expected a DICOM file with voxels, came one without: copy it again, or remove it")
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(file))
    with opened(file, "a DICOM", (RuntimeError,)):
        reader.ReadImageInformation()
    return reader


def _slice(path: Path, sitk: Any, file: Path) -> _Slice:
    reader = _read(sitk, file)
    position, orientation = _numbers(reader, _POSITION, 3), _numbers(reader, _ORIENTATION, 6)
    if position is None or orientation is None or reader.GetSize()[2:] not in ((), (1,)):
        raise InputError(
            f"{file}: expected one slice with its position and orientation, came a file without: "
            "export the series again, or convert it to .nii.gz"
        )
    return _Slice(file, position, orientation.reshape(2, 3), reader)


def _sorted(path: Path, slices: Sequence[_Slice]) -> list[_Slice]:
    """Slices along their normal; a series with gaps, doubled positions or several sizes is refused."""
    first = slices[0]
    for other in slices:
        same = np.allclose(other.orientation, first.orientation, atol=1e-3)
        if other.reader.GetSize() != first.reader.GetSize() or not same:
            raise InputError(
                f"{path}: expected slices of one size and orientation, came another in {other.path.name} than in "
                f"{first.path.name}: move what does not belong to the scan (localizers) elsewhere"
            )
    normal = np.cross(*first.orientation)
    ordered = sorted(slices, key=lambda item: float(item.position @ normal))
    steps = np.diff([float(item.position @ normal) for item in ordered])
    usual = float(np.median(steps))
    if steps.min() < 1e-3:
        at = int(steps.argmin())
        raise InputError(
            f"{path}: expected every slice at a place of its own, came {ordered[at].path.name} and "
            f"{ordered[at + 1].path.name} at one: these are time frames or echoes; move each to a folder of its own"
        )
    if np.abs(steps - usual).max() > _TOLERANCE * usual:
        at = int(np.abs(steps - usual).argmax())
        raise InputError(
            f"{path}: expected slices {usual:.4g} mm apart as most are, came {steps[at]:.4g} mm between "
            f"{ordered[at].path.name} and {ordered[at + 1].path.name}: a slice is missing or superfluous; "
            "export the series again"
        )
    return ordered


def _affine(slices: Sequence[_Slice]) -> Array:
    """From the positions of the first and the last slice, so that slices that are shifted stay in place."""
    first, last = slices[0], slices[-1]
    column, row = first.reader.GetSpacing()[:2]
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[0] * column
    affine[:3, 1] = first.orientation[1] * row
    affine[:3, 2] = (last.position - first.position) / (len(slices) - 1)
    affine[:3, 3] = first.position
    return from_lps(affine)


def _header(path: Path, sitk: Any, readers: Sequence[Any], affine: Array, size: Sequence[int]) -> Header:
    kinds = [type_of(path, sitk, reader.GetPixelID()) for reader in readers]
    kind = max(kinds, key=lambda kind: (kind.kind == "f", kind.itemsize))
    check_type(path, kind)
    channels = int(readers[0].GetNumberOfComponents())
    for reader in readers:
        file = Path(reader.GetFileName())
        bits = _tag(reader, _BITS)
        stored = np.dtype(f"u{int(bits) // 8}" if bits in ("8", "16", "32", "64") else "u1")
        check_size(
            file, (*reader.GetSize(), channels), stored, file.stat().st_size, DEFLATE_RATIO if walk(file).packed else 1
        )
    check_affine(path, affine)
    x, y, z = (*(int(side) for side in size), 1)[:3]
    return Header((x, y, z), affine, kind, channels)


def _tag(reader: Any, key: str) -> str:
    return str(reader.GetMetaData(key)).strip(" \0") if reader.HasMetaDataKey(key) else ""


def _numbers(reader: Any, key: str, count: int) -> Array | None:
    try:
        values = np.array([float(part) for part in _tag(reader, key).split("\\")])
    except ValueError:
        return None
    return values if values.size == count and np.isfinite(values).all() else None
