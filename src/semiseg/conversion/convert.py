"""Bringing one case into a dataset folder: links or copies of NIfTI files, everything else converted, losslessly."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.errors import InputError
from semiseg.scans.formats import ending_of
from semiseg.scans.formats.base import Triple
from semiseg.scans.grids import Grid, grid_problems
from semiseg.scans.readers import Volume, read_header, read_label_values, read_stored, write_nifti
from semiseg.system.files import replacing

Array = np.ndarray[Any, np.dtype[Any]]

_NIFTI = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8")


@dataclass(frozen=True)
class CaseTask:
    """One case to bring in.

    Attributes:
        images: source files; one per target, or one with all channels.
        image_targets: files to write, one per channel.
        label, label_target: likewise, where the case has a label.
        values: new label value by the one in the file; empty when they stay.
        spacing: mm along X, Y, Z for files that record none.
        copy: copy files that could be linked.
    """

    images: tuple[Path, ...]
    image_targets: tuple[Path, ...]
    label: Path | None
    label_target: Path
    values: Mapping[int, int]
    spacing: Triple | None
    copy: bool


def bring(task: CaseTask) -> tuple[str, ...]:
    """Write the files of a case that are not there yet; returns what is wrong with it.

    A file that is there and not older than its source is whole, for files are moved into place when they are.
    """
    try:
        if len(task.images) < len(task.image_targets):
            _split_channels(task)
        else:
            for source, target in zip(task.images, task.image_targets, strict=True):
                _bring_image(source, target, task)
        if task.label is not None:
            _bring_label(task.label, task)
    except InputError as error:
        return error.problems
    return ()


def label_counts(path: Path) -> dict[int, int]:
    """Voxels by label value.

    Raises:
        InputError: the file cannot be read or holds no whole numbers.
    """
    values, counts = np.unique(read_label_values(path).array, return_counts=True)
    return dict(zip((int(value) for value in values), counts.tolist(), strict=True))


def _split_channels(task: CaseTask) -> None:
    (source,) = task.images
    if all(_there(source, target) for target in task.image_targets):
        return
    volume = read_stored(source, channels=len(task.image_targets), spacing=task.spacing)
    for channel, target in zip(volume.array, task.image_targets, strict=True):
        write_nifti(target, Volume(_storable(channel), volume.affine))


def _bring_image(source: Path, target: Path, task: CaseTask) -> None:
    if _same_kind(source, target):
        _link(source, target, copy=task.copy)
    elif not _there(source, target):
        volume = read_stored(source, channels=1, spacing=task.spacing)
        write_nifti(target, Volume(_storable(volume.array[0]), volume.affine))


def _bring_label(source: Path, task: CaseTask) -> None:
    target = task.label_target
    if _same_kind(source, target) and not task.values:
        _link(source, target, copy=task.copy)
        return
    if _there(source, target):
        return
    label = read_label_values(source, spacing=task.spacing)
    header = read_header(task.images[0], spacing=task.spacing)
    affine = label.affine if label.recorded else header.affine
    x, y, z = header.shape
    problems = grid_problems(source, label.grid, task.images[0], Grid((x, y, z), header.affine, header.recorded))
    if label.array.shape != header.shape:  # other differences are found by the check of the whole dataset
        raise InputError(*problems)
    write_nifti(target, Volume(_renumbered(label.array, task.values), affine))


def _renumbered(array: Array, values: Mapping[int, int]) -> Array:
    if not values:
        return _storable(array)
    result = np.zeros(array.shape, dtype=np.uint8)
    for old, new in values.items():
        result[array == old] = new
    return result


def _storable(array: Array) -> Array:
    """The array in a type that NIfTI has; whole numbers stay exact."""
    if f"{array.dtype.kind}{array.dtype.itemsize}" in _NIFTI:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        return array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)
    fits = array.size == 0 or (array.min() >= np.iinfo(np.int32).min and array.max() <= np.iinfo(np.int32).max)
    return array.astype(np.int32 if fits else np.float64)


def _same_kind(source: Path, target: Path) -> bool:
    """Whether the file can be taken as it is."""
    ending = ending_of(source)
    return ending is not None and ending == ending_of(target) and read_header(source).channels == 1


def _link(source: Path, target: Path, *, copy: bool) -> None:
    """A hard link, a symbolic one where that cannot be (other disk), or a copy where it is wanted or neither can be."""
    if copy:
        if not _there(source, target):
            _copy(source, target)
        return
    if target.exists() and target.samefile(source):
        return
    with suppress(OSError):
        target.unlink(missing_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source.resolve(), target)
        return
    with suppress(OSError):
        target.symlink_to(source.resolve())
        return
    _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _there(source: Path, target: Path) -> bool:
    return target.is_file() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns
