"""Scans and labels of any format as arrays with their place in space; NIfTI out."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import nibabel as nib
import numpy as np

from semiseg.errors import InputError, raise_all
from semiseg.scans.formats import format_of
from semiseg.scans.formats.base import Header, Request, Triple, Volume
from semiseg.scans.grids import grid_problems
from semiseg.system.files import replacing

__all__ = [
    "Header",
    "Volume",
    "joined",
    "largest_scan",
    "read_channel",
    "read_header",
    "read_image",
    "read_label",
    "read_label_values",
    "read_stored",
    "write_label",
    "write_nifti",
]

Array = np.ndarray[Any, np.dtype[Any]]

_WHOLE = 1e-3  # what is left of whole numbers that were stored as 16 bits with a slope


def read_header(path: Path, part: Literal["image", "label"] = "image", *, spacing: Triple | None = None) -> Header:
    """Shape `[X, Y, Z]`, affine, stored type and number of channels; no voxel is read.

    Args:
        path: a file, or a folder with a DICOM series.
        part: which array of files that hold image and label.
        spacing: mm along X, Y, Z for formats that record none.

    Raises:
        InputError: the file is missing, damaged, of an unknown format, or not one 2D or 3D scan.
    """
    return format_of(path).read_header(path, Request(part, spacing=spacing))


def largest_scan(scans: Iterable[Sequence[Path]]) -> int:
    """Voxels in all channels of the largest of `scans`, by the headers of about 20; unreadable ones are passed over."""
    largest, listed = 0, list(scans)
    for paths in listed[:: len(listed) // 20 + 1]:
        with suppress(InputError):
            header = read_header(paths[0])
            largest = max(largest, math.prod(header.shape) * header.channels * len(paths))
    return largest


def read_image(paths: Sequence[Path], *, channels: int | None = None, spacing: Triple | None = None) -> Volume:
    """One scan from its files, one per channel, or from one file with all: `[C, X, Y, Z]`, int16 or else float32.

    2D images have one slice (`Z = 1`). Scans stored as int16 are kept so.

    Args:
        paths: files in the order of the channels, or one file (a folder for a DICOM series).
        channels: number of channels; without it the fourth axis of one file is not taken for channels, for it may
            count time frames.
        spacing: mm along X, Y, Z for formats that record none.

    Raises:
        InputError: a file cannot be read or has NaN or infinite voxels, or the channels are not on one grid.
    """
    found: list[Volume] = []
    problems: list[str] = []
    for path in paths:
        try:
            found.append(_read_channels(path, Request("image", channels if len(paths) == 1 else 1, spacing)))
        except InputError as error:
            problems.extend(error.problems)
    raise_all(problems)
    for path, volume in zip(paths, found, strict=True):
        problems.extend(grid_problems(path, volume.grid, paths[0], found[0].grid))
    raise_all(problems)
    return joined(found)


def joined(files: Sequence[Volume]) -> Volume:
    """One scan of the images `[C, X, Y, Z]` of its files, which lie on one grid; see `read_image`."""
    first = files[0]
    if len(files) == 1:
        return first
    kept = all(volume.array.dtype == np.int16 for volume in files)
    kind = np.int16 if kept else np.float32
    array = np.concatenate([volume.array for volume in files], dtype=kind)
    return replace(first, array=array, oriented=all(volume.oriented for volume in files))


def read_channel(path: Path, index: int | None = None, *, spacing: Triple | None = None) -> Volume:
    """One channel of a scan, `[X, Y, Z]`; see `read_image`.

    Args:
        path: a file, or a folder with a DICOM series.
        index: which channel of a file that has several; without it there must be one.
        spacing: mm along X, Y, Z for formats that record none.
    """
    count = 1 if index is None else read_header(path).channels
    volume = _read_channels(path, Request("image", count, spacing))
    return replace(volume, array=volume.array[index or 0])


def read_label(path: Path, *, spacing: Triple | None = None) -> Volume:
    """Class indices `[X, Y, Z]`, uint8.

    Raises:
        InputError: the file cannot be read, or has values that are no whole numbers from 0 to 255.
    """
    volume = read_label_values(path, spacing=spacing)
    values = volume.array
    if values.dtype == np.uint8:
        return volume
    outside = (values < 0) | (values > 255)
    if outside.any():
        raise InputError(
            f"{path}: expected label values from 0 to 255, came {_first(values, outside)} in {_places(outside)}: "
            "number the classes 0, 1, 2, ..., as semiseg init does with --classes VALUE=NAME,VALUE=NAME"
            + (" (values below 0: relabel these voxels first)" if (values < 0).any() else "")
        )
    return replace(volume, array=values.astype(np.uint8))


def read_stored(path: Path, *, channels: int | None = None, spacing: Triple | None = None) -> Volume:
    """One file of a scan, `[C, X, Y, Z]`, in the type in which it is stored, and unchecked values; see `read_image`.

    Raises:
        InputError: the file cannot be read, or has other channels.
    """
    return format_of(path).read_volume(path, Request("image", channels, spacing))


def read_label_values(path: Path, *, spacing: Triple | None = None) -> Volume:
    """Whole numbers `[X, Y, Z]` of a label file, whatever they are.

    Raises:
        InputError: the file cannot be read, or has values that are no whole numbers.
    """
    volume = format_of(path).read_volume(path, Request("label", spacing=spacing))
    values = volume.array[0]
    if values.dtype.kind == "f":
        values = _whole(values, path)
    return replace(volume, array=values)


def write_label(path: Path, array: Array, reference: Path | Header, *, spacing: Triple | None = None) -> None:
    """Write class indices `[X, Y, Z]` as NIfTI on the grid of `reference`, stored as uint8.

    Where `reference` is NIfTI with one channel, its header and number of axes are kept.

    Args:
        path: file to write, `.nii.gz` or `.nii`.
        array: class indices.
        reference: the scan, of any format, or its header.
        spacing: mm along X, Y, Z where the format of `reference` records none.

    Raises:
        InputError: `reference` cannot be read or `path` cannot be written.
        ValueError: `array` has another shape, or values that uint8 cannot hold.
    """
    label = array.astype(np.uint8)
    if not np.array_equal(label, array):
        raise ValueError("labels to write must be whole numbers from 0 to 255")
    header = reference if isinstance(reference, Header) else read_header(reference, spacing=spacing)
    if array.shape != header.shape:
        raise ValueError(f"label of shape {array.shape} for a scan of shape {header.shape}")
    if header.nifti is None or header.channels > 1:
        write_nifti(path, Volume(label, header.affine))
        return
    from semiseg.scans.formats.nifti import label_image

    with replacing(path) as temporary:
        _save(label_image(label, header.nifti), temporary, compress=path.name.endswith(".gz"))


def write_nifti(path: Path, volume: Volume) -> None:
    """Write `[X, Y, Z]` as NIfTI in mm, in the type of the array.

    Raises:
        InputError: `path` cannot be written.
    """
    image = cast(Any, nib).Nifti1Image(volume.array, volume.affine, dtype=volume.array.dtype)
    image.header.set_xyzt_units("mm")
    with replacing(path) as temporary:
        _save(image, temporary, compress=path.name.endswith(".gz"))


def _read_channels(path: Path, request: Request) -> Volume:
    """`[C, X, Y, Z]`, int16 if stored so, else float32; finite."""
    volume = format_of(path).read_volume(path, request)
    values = volume.array
    if values.dtype.kind == "i" and values.dtype.itemsize == 2:
        return replace(volume, array=values.astype(np.int16, copy=False))
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is told
        values = values.astype(np.float32, copy=False)
    for number, channel in enumerate(values):
        bad = ~np.isfinite(channel)
        if bad.any():
            where = f"channel {number}: " if len(values) > 1 else ""
            raise InputError(
                f"{path}: {where}expected finite intensities, came NaN or infinity in {_places(bad)}: "
                "replace these voxels, for example by the intensity of air"
            )
    return replace(volume, array=values)


def _save(image: nib.Nifti1Image, path: Path, *, compress: bool) -> None:
    with path.open("wb") as file:
        if not compress:
            image.to_stream(file)
            return
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=4, mtime=0) as packed:
            image.to_stream(packed)


def _whole(values: Array, path: Path) -> Array:
    rounded = np.rint(values)
    with np.errstate(invalid="ignore"):
        broken = ~(np.abs(values - rounded) <= _WHOLE)
    if broken.any():
        raise InputError(
            f"{path}: expected whole numbers as labels, came {_first(values, broken)} in {_places(broken)}: "
            "round the labels and save them as uint8"
        )
    return rounded


def _first(values: Array, where: Array) -> str:
    return f"{values[np.unravel_index(int(where.argmax()), where.shape)]:.7g}"


def _places(where: Array) -> str:
    """How many voxels are marked in `where`, and the first one."""
    first = [int(index) for index in np.unravel_index(int(where.argmax()), where.shape)]
    return f"{int(where.sum())} voxel(s), the first at {first}"
