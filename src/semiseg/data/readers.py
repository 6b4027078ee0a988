"""Scans and labels as arrays with their place in space; NIfTI in and out."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np

from semiseg.data.grids import Grid, grid_problems, spacing_of
from semiseg.data.nifti import affine_mm, open_header, read_voxels, stored_type, volume_shape
from semiseg.errors import InputError, raise_all
from semiseg.files import replacing

Array = np.ndarray[Any, np.dtype[Any]]

_WHOLE = 1e-5


@dataclass(frozen=True)
class Header:
    """What a file says of its scan: sides in voxels, voxel indices -> RAS+ mm, stored type."""

    shape: tuple[int, ...]
    affine: Array
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Volume:
    """A scan `[C, X, Y, Z]` or a label `[X, Y, Z]`, and its affine: voxel indices -> RAS+ mm."""

    array: Array
    affine: Array

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        x, y, z = self.array.shape[-3:]
        return Grid((x, y, z), self.affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along each axis, mm."""
        return spacing_of(self.affine)


def read_header(path: Path) -> Header:
    """Shape `[X, Y, Z]`, affine and stored type; no voxel is read.

    Raises:
        InputError: the file is missing, damaged, no NIfTI file, or not one 2D or 3D scan.
    """
    image = open_header(path)
    return Header(volume_shape(image), affine_mm(image), stored_type(image))


def read_image(paths: Sequence[Path]) -> Volume:
    """One scan from its files, one per channel: `[C, X, Y, Z]`, int16 if all are stored so, else float32.

    2D images have one slice (`Z = 1`).

    Raises:
        InputError: a file cannot be read or has NaN or infinite voxels, or the channels are not on one grid.
    """
    channels: list[Volume] = []
    problems: list[str] = []
    for path in paths:
        try:
            channels.append(read_channel(path))
        except InputError as error:
            problems.extend(error.problems)
    raise_all(problems)
    first = channels[0]
    for path, channel in zip(paths, channels, strict=True):
        problems.extend(grid_problems(path, channel.grid, paths[0], first.grid))
    raise_all(problems)
    kept = all(channel.array.dtype == np.int16 for channel in channels)
    stacked = np.stack([channel.array for channel in channels], dtype=np.int16 if kept else np.float32)
    return Volume(stacked, first.affine)


def read_channel(path: Path) -> Volume:
    """One file of a scan, `[X, Y, Z]`; see `read_image`."""
    values, affine = read_voxels(path)
    if values.dtype.kind == "i" and values.dtype.itemsize == 2:
        return Volume(values.astype(np.int16, copy=False), affine)
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is told
        values = values.astype(np.float32, copy=False)
    bad = ~np.isfinite(values)
    if bad.any():
        raise InputError(
            f"{path}: expected finite intensities, came NaN or infinity in {_places(bad)}: "
            "replace these voxels, for example by the intensity of air"
        )
    return Volume(values, affine)


def read_label(path: Path) -> Volume:
    """Class indices `[X, Y, Z]`, uint8.

    Raises:
        InputError: the file cannot be read, or has values that are no whole numbers from 0 to 255.
    """
    values, affine = read_voxels(path)
    if values.dtype == np.uint8:
        return Volume(values, affine)
    if values.dtype.kind == "f":
        values = _whole(values, path)
    outside = (values < 0) | (values > 255)
    if outside.any():
        raise InputError(
            f"{path}: expected label values from 0 to 255, came {_first(values, outside)} in {_places(outside)}: "
            "number the classes 0, 1, 2, ..."
        )
    return Volume(values.astype(np.uint8), affine)


def write_label(path: Path, array: Array, reference: Path) -> None:
    """Write class indices `[X, Y, Z]` on the grid of `reference`: same header, affine and shape, stored as uint8.

    Raises:
        InputError: `reference` cannot be read or `path` cannot be written.
        ValueError: `array` has another shape, or values that uint8 cannot hold.
    """
    label = array.astype(np.uint8)
    if not np.array_equal(label, array):
        raise ValueError("labels to write must be whole numbers from 0 to 255")
    image = open_header(reference)
    if array.shape != volume_shape(image):
        raise ValueError(f"label of shape {array.shape} for a scan of shape {volume_shape(image)}")
    header: Any = cast(Any, image.header).copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    written = type(image)(label.reshape(image.shape), image.affine, header)
    with replacing(path) as temporary:
        _save(written, temporary, compress=path.name.endswith(".gz"))


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
