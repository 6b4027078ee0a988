"""Reading source files for importers: values `[X, Y, Z]` as they are stored, for preprocessing depends on that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.conversion.papers.base import Item
from semiseg.errors import InputError
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


def read_pair(item: Item) -> tuple[Array, Array, Array]:
    """Image, label, and affine of the image, as `read_volume`.

    Raises:
        InputError: either cannot be read, or their shapes differ.
    """
    (image, affine), (label, _) = read_volume(item.images[0]), read_volume(item.label_file)
    check_shapes(item, image, label)
    return image, label, affine


def check_shapes(item: Item, image: Array, label: Array) -> None:
    """Ensure that `label` lies on the voxels of `image`.

    Raises:
        InputError: their shapes differ.
    """
    if label.shape != image.shape:
        raise InputError(
            f"{item.label}: expected shape {list(image.shape)} as {item.images[0].name}, came {list(label.shape)}: "
            "take scan and label of the same case from the same download"
        )


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
