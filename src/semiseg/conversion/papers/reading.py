"""Reading source files for importers: values `[X, Y, Z]` as they are stored, for preprocessing depends on that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.scans.formats import format_of, hdf5
from semiseg.scans.formats.base import Request

Array = np.ndarray[Any, np.dtype[Any]]


def read_volume(path: Path) -> tuple[Array, Array]:
    """Values `[X, Y, Z]` as they are stored (scaled where the file says so) and the affine (voxels -> RAS+ mm).

    `path` is a file of any format, or a folder that holds one DICOM series.

    Raises:
        InputError: the file is missing or damaged, or is not one scan with one channel.
    """
    volume = format_of(path).read_volume(path, Request(channels=1))
    return volume.array[0], volume.affine


def read_npy(path: Path) -> Array:
    """The array `[X, Y, Z]` (or in another order) in an npy file.

    Raises:
        InputError: the file is damaged or holds no numbers in two or three axes.
    """
    return read_volume(path)[0]


def read_h5(path: Path, names: Sequence[str] = ("image", "label")) -> list[Array]:
    """Data sets `names` of an HDF5 file, whole.

    Raises:
        InputError: the file is damaged or no HDF5 file, or lacks one of them.
    """
    return [hdf5.read_array(path, name) for name in names]
