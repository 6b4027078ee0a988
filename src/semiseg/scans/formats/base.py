"""What all formats share: what is asked of a file, what it answers, and what no file may claim."""

from __future__ import annotations

import locale
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from semiseg.errors import InputError
from semiseg.scans.grids import Grid, spacing_of
from semiseg.system.memory import total_memory

Array = np.ndarray[Any, np.dtype[Any]]
Triple = tuple[float, float, float]

DEFLATE_RATIO = 1032
"""The most that deflate can shrink anything."""

_SLACK = 1 << 16
_POINTER, _LONGEST_POINTER = b"version https://git-lfs", 1 << 10
_FARTHEST = 1e7  # mm
_FLIP_XY = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Request:
    """What is wanted of a file.

    Attributes:
        part: which array, in files that hold several; labels have one value per voxel.
        channels: how many are expected; None takes any number where the file leaves no doubt that they are channels.
        spacing: mm along X, Y, Z for files that record none; 1 mm where it is not given.
    """

    part: Literal["image", "label"] = "image"
    channels: int | None = None
    spacing: Triple | None = None


@dataclass(frozen=True)
class Header:
    """What a file says of its scan.

    Attributes:
        shape: sides in voxels, `[X, Y, Z]`.
        affine: voxel indices -> RAS+ mm.
        dtype: stored type.
        channels: values per voxel.
        certain: False where several values per voxel may as well be time frames.
        recorded: whether the file itself says where its voxels lie; otherwise spacing and position are assumed.
        nifti: a copy of the header of a NIfTI file, which labels of the scan keep.
    """

    shape: tuple[int, ...]
    affine: Array
    dtype: np.dtype[Any]
    channels: int = 1
    certain: bool = True
    recorded: bool = True
    nifti: Any = None

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        x, y, z = self.shape
        return Grid((x, y, z), self.affine, self.recorded)


@dataclass(frozen=True)
class Volume:
    """A scan `[C, X, Y, Z]` or a label `[X, Y, Z]` and its affine, voxel indices -> RAS+ mm.

    `recorded` is False where the file says nothing of spacing and position, so that they are assumed; `oriented` where
    a NIfTI file does not say where left and right are (pictures and arrays, which say nothing at all, are not meant).
    """

    array: Array
    affine: Array
    recorded: bool = True
    oriented: bool = True

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        x, y, z = self.array.shape[-3:]
        return Grid((x, y, z), self.affine, self.recorded)

    @property
    def spacing(self) -> Triple:
        """Distance of neighbouring voxels along each axis, mm."""
        return spacing_of(self.affine)


def library(name: str, package: str, path: Path) -> Any:
    """The module `name`, which reading `path` needs.

    Raises:
        InputError: it is not installed; says how to install it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(
            f"{path}: reading this format needs {package}, which cannot be imported ({error}): pip install {package}"
        ) from None


@contextmanager
def kept_locale() -> Iterator[None]:
    """Around calls of ITK, which leaves the process with the locale "C", in which text files are read as ASCII."""
    spoken = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, spoken)


@contextmanager
def opened(path: Path, kind: str, broken: tuple[type[BaseException], ...]) -> Iterator[None]:
    """Around what opens and reads `path`; tells what is wrong with it.

    Args:
        path: a file.
        kind: format and its article, such as `a NIfTI`.
        broken: exceptions that mean that the content is damaged.

    Raises:
        InputError: the file is missing, empty, unreadable, damaged or too large for the memory.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path}: expected {kind} file, found none: add the file or remove the case")
        if path.stat().st_size == 0:
            raise InputError(f"{path}: expected {kind} file, came an empty one (0 bytes): copy it again")
        if path.stat().st_size < _LONGEST_POINTER and path.read_bytes().startswith(_POINTER):
            raise InputError(
                f"{path}: expected {kind} file, came the pointer of Git LFS to it: fetch it with git lfs pull"
            )
        with kept_locale():
            yield
    except PermissionError as error:
        raise InputError(f"{path}: expected a readable file, came {error.strerror}: change its permissions") from error
    except broken as error:
        raise InputError(
            f"{path}: expected a whole {kind.split(' ', 1)[1]} file, came a cut off or damaged one ({reason(error)}): "
            "copy it again"
        ) from error
    except MemoryError as error:
        raise InputError(
            f"{path}: the scan does not fit into memory: free some, or crop or resample the scan"
        ) from error


def reason(error: BaseException) -> str:
    """What an exception says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def check_type(path: Path, kind: np.dtype[Any]) -> None:
    """Refuse anything but real numbers."""
    if kind.kind not in "iufb":
        raise InputError(
            f"{path}: expected one real number per voxel, came {kind}: convert the file to int16 or float32"
        )


def check_size(path: Path, shape: tuple[int, ...], kind: np.dtype[Any], held: int, ratio: int = 1) -> None:
    """Refuse a header that promises more than `held` stored bytes can be, at most `ratio` times compressed."""
    promised = math.prod(shape) * kind.itemsize
    if promised > held * ratio + (_SLACK if ratio > 1 else 0):
        raise InputError(
            f"{path}: its header promises shape {list(shape)} of {kind}, {promised} bytes, which cannot be in "
            f"a file of {held} bytes: the file is cut off or its header is wrong; copy or export it again"
        )
    if promised > total_memory():
        raise InputError(
            f"{path}: its header promises shape {list(shape)} of {kind}, {promised} bytes, which is more than this "
            "machine has: crop or resample the scan"
        )


def check_affine(path: Path, affine: Array) -> None:
    """Refuse an affine that is not finite or puts several voxels into one place."""
    sane = np.isfinite(affine).all() and np.abs(affine).max() < _FARTHEST
    if not sane or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        flat = np.array2string(affine[:3], precision=4, separator=",").replace("\n", "")
        raise InputError(
            f"{path}: expected an affine that gives every voxel a place of its own, came {flat}: "
            "export the scan again, with its spacing and orientation"
        )


def check_channels(path: Path, header: Header, request: Request) -> None:
    """Refuse a number of values per voxel that was not asked for, and time frames that were not taken for channels.

    Raises:
        InputError: says what came and what to do.
    """
    if header.channels == 1 and request.channels in (None, 1):
        return
    if request.part == "image" and header.channels == request.channels:
        return
    if not header.certain:
        shape = [*header.shape, header.channels]
        hint = "" if request.part == "label" else f", or name {header.channels} channels if that is what it holds"
        raise InputError(
            f"{path}: expected a 3D scan (or a 2D image), came 4D of shape {shape}: write every time point to a file "
            f"of its own{hint}"
        )
    if request.part == "label":
        raise InputError(
            f"{path}: expected one class index per voxel, came {header.channels} values: save the label as grey values "
            "or class indices"
        )
    if request.channels is not None:
        raise InputError(
            f"{path}: expected {request.channels} channel(s), came {header.channels}: correct the file, or the "
            "number of named channels"
        )


def from_lps(affine: Array) -> Array:
    """RAS+ affine of one that counts towards left and posterior, as ITK and DICOM do."""
    return np.asarray(_FLIP_XY @ affine)


def assumed_affine(request: Request) -> Array:
    """The affine of a file that records none: axes to right, anterior, superior; the given spacing or 1 mm."""
    return np.diag([*(request.spacing or (1.0, 1.0, 1.0)), 1.0])
