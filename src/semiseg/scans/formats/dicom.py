"""A DICOM series: a folder of slices, or one file of them. Tags that name people are neither read nor kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
from semiseg.scans.formats.dicom_elements import KIND, REFERENCE, STUDY, DeflatedError, Elements, begins_as_dicom, walk
from semiseg.scans.formats.sitk import affine_of, quiet, type_of, values_of
from semiseg.scans.formats.stacks import Place, frame_places, in_order, place, stack_affine

Array = np.ndarray[Any, np.dtype[Any]]

_MODALITY, _BITS = "0008|0060", "0028|0100"
_SHOWN = 4
_DOCUMENTS = ("1.2.840.10008.5.1.4.1.1.481.", "1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.11.")
"""Beginnings of the SOP classes of radiotherapy, of reports and key objects, and of presentation states."""
_OTHERS = ("1.2.840.10008.5.1.4.1.1.66", "1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.104.2")
"""Raw data and registrations, and documents in an envelope."""
_NAMES = {
    **{f"i{size}": f"sitkInt{8 * size}" for size in (1, 2, 4, 8)},
    **{f"u{size}": f"sitkUInt{8 * size}" for size in (1, 2, 4, 8)},
    **{f"f{size}": f"sitkFloat{8 * size}" for size in (4, 8)},
}
"""Of pixel types in SimpleITK."""


def read_header(path: Path, request: Request) -> Header:
    """What the series says of its scan."""
    return _open(path)[0]


def read_volume(path: Path, request: Request) -> Volume:
    """Values `[C, X, Y, Z]` with each file's scaling applied; slices in the order of their positions."""
    header, files, order = _open(path)
    check_channels(path, header, request)
    sitk = quiet(path)
    reader = sitk.ImageSeriesReader() if len(files) > 1 else sitk.ImageFileReader()
    if len(files) > 1:
        reader.SetFileNames([str(file) for file in files])
    else:
        reader.SetFileName(str(files[0]))
    if header.channels == 1:  # otherwise all slices come in the type of the first one, cut off and wrapped round
        reader.SetOutputPixelType(getattr(sitk, _NAMES[header.dtype.str[1:]]))
    with opened(files[0], "a DICOM", (RuntimeError,)):
        image = reader.Execute()
    values = values_of(image, header)
    return Volume(values if order is None else values[..., order], header.affine)


def modality(path: Path) -> str:
    """Modality of a series, such as `CT` or `MR`; empty when it says none."""
    return _tag(_read(quiet(path), series_files(path)[0]), _MODALITY)


def series_files(path: Path) -> tuple[Path, ...]:
    """The files of the one series in `path`, in no particular order; files of other kinds than images are passed over.

    Slices that have a series each are one when they are of one study, frame of reference, size and orientation, and
    lie in equal steps.

    Raises:
        InputError: there is none, or more than one.
    """
    if path.is_file():
        return (path,)
    found: dict[str, dict[Path, Elements]] = {}
    lost = []
    for file in sorted(path.iterdir()):
        if is_dicom(file):
            try:
                elements = _elements(file)
            except DeflatedError:
                raise
            except InputError:
                elements = None
            if elements is None or not (elements.image or _is_document(elements)):
                lost.append(file.name)
            elif elements.image:
                found.setdefault(elements.series, {})[file] = elements
    files = _joined(path, found) if len(found) > 1 else tuple(file for held in found.values() for file in held)
    if lost:
        raise InputError(
            f"{path}: expected slices of one series only, came {len(lost)} DICOM file(s) that are damaged or no image, "
            f"such as {lost[0]}: copy them again, or move them elsewhere"
        )
    if not files:
        raise InputError(f"{path}: expected a folder with a DICOM series, found none in it: check the path")
    return files


def _is_document(elements: Elements) -> bool:
    """Whether a file without voxels is of a kind that has none, such as contours or a report."""
    kind = elements.tags.get(KIND, "")
    return kind.startswith(_DOCUMENTS) or kind.startswith(_OTHERS)


def _joined(path: Path, series: Mapping[str, Mapping[Path, Elements]]) -> tuple[Path, ...]:
    """The slices of one scan whose files have a series each, as some scanners write them."""
    files = {file: elements for held in series.values() for file, elements in held.items()}
    if len(files) > len(series):
        listed = [f"{uid} ({len(held)} files, such as {next(iter(held)).name})" for uid, held in sorted(series.items())]
        raise InputError(
            f"{path}: expected one DICOM series, came {len(series)}: {_some(listed)}: move each to a folder of its own"
        )
    studies = {(elements.tags.get(STUDY, ""), elements.tags.get(REFERENCE, "")) for elements in files.values()}
    reason = "they are not of one study and frame of reference"
    if len(studies) == 1 and all(studies.copy().pop()):
        reason = "they do not say where they lie"
        places = [place(file.name, 0, elements.tags, (0, 0)) for file, elements in files.items()]
        told = [each for each in places if each is not None]
        if len(told) == len(files) > 2:
            try:
                in_order(path, told, "a folder")
                return tuple(files)
            except InputError as error:
                reason = error.problems[0].removeprefix(f"{path}: ")
    raise InputError(
        f"{path}: expected one DICOM series, came {len(series)} of one file each ({_some(file.name for file in files)})"
        f", which are no slices of one scan: {reason}"
    )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    rest = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return "; ".join(listed[:_SHOWN]) + rest


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its name or its first bytes; the index of a medium is none."""
    if not path.is_file() or path.name.upper() == "DICOMDIR":
        return False
    if path.suffix.lower() == ".dcm":
        return True
    with path.open("rb") as file:
        return begins_as_dicom(file.read(132))


@np.errstate(all="ignore")
def _open(path: Path) -> tuple[Header, tuple[Path, ...], list[int] | None]:
    """Header and ordered files of a series, and the order of frames; overflowing places are left to `check_affine`."""
    files = series_files(path)
    sitk = quiet(path)
    if len(files) == 1:
        reader = _read(sitk, files[0])
        size = reader.GetSize()
        if len(size) < 3 or size[2] < 2:
            return _header(path, sitk, [reader], affine_of(reader), size), files, None
        frames = in_order(path, frame_places(path, _elements(files[0]), size), "a file")
        affine = stack_affine(frames, reader.GetSpacing())
        return _header(path, sitk, [reader], affine, size), files, [frame.index for frame in frames]
    readers = [_read(sitk, file) for file in files]
    slices = in_order(path, [_slice(index, reader) for index, reader in enumerate(readers)], "a folder")
    ordered = [readers[item.index] for item in slices]
    size = (*slices[0].size, len(slices))
    header = _header(path, sitk, ordered, stack_affine(slices, ordered[0].GetSpacing()), size)
    return header, tuple(files[item.index] for item in slices), None


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


def _slice(index: int, reader: Any) -> Place:
    file = Path(reader.GetFileName())
    elements = _elements(file)
    tags = {**elements.tags, **elements.frames[0]} if len(elements.frames) == 1 else elements.tags
    found = place(file.name, index, tags, reader.GetSize())
    if found is None or reader.GetSize()[2:] not in ((), (1,)):
        raise InputError(
            f"{file}: expected one slice with its position and orientation, came a file without: "
            "export the series again, or convert it to .nii.gz"
        )
    return found


def _header(path: Path, sitk: Any, readers: Sequence[Any], affine: Array, size: Sequence[int]) -> Header:
    kinds = [type_of(path, sitk, reader.GetPixelID()) for reader in readers]
    kind = _common(kinds)
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


def _common(kinds: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
    """The type that holds the values of all slices, which are whole numbers in some and fractions in others."""
    if len(set(kinds)) == 1:
        return kinds[0]
    exact = any(kind.itemsize == 8 or (kind.kind != "f" and kind.itemsize > 2) for kind in kinds)
    return np.dtype("f8" if exact else "f4")
