"""File formats of scans and labels, chosen by a file's ending; a library is imported when its format is first met."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from semiseg.errors import InputError
from semiseg.scans.formats.base import Header, Request, Volume

_HOME = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".nrrd": "sitk",
    ".nhdr": "sitk",
    ".mha": "sitk",
    ".mhd": "sitk",
    ".dcm": "dicom",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".npy": "arrays",
    ".npz": "arrays",
    ".png": "pictures",
    ".tif": "pictures",
    ".tiff": "pictures",
}

ENDINGS = tuple(_HOME)
"""Endings of all files that can be read, in lower case; a DICOM series is a folder."""


class Format(Protocol):
    """What the module of a format offers."""

    @property
    def read_header(self) -> Callable[[Path, Request], Header]:
        """What a file says of its scan; no voxel is read."""

    @property
    def read_volume(self) -> Callable[[Path, Request], Volume]:
        """Values `[C, X, Y, Z]` in the type in which they are stored, and where they lie."""


def ending_of(path: Path) -> str | None:
    """The ending of a file that can be read, in lower case; None for other files."""
    name = path.name.lower()
    return next((ending for ending in ENDINGS if name.endswith(ending)), None)


def format_of(path: Path) -> Format:
    """The module that reads `path`; folders are DICOM series.

    Raises:
        InputError: no known ending.
    """
    ending = ending_of(path)
    home = "dicom" if path.is_dir() else _HOME.get(ending or "")
    if home is None:
        raise InputError(
            f"{path}: expected a scan ({', '.join(ENDINGS)}, or a folder with a DICOM series), came another ending: "
            "convert it"
        )
    return cast(Format, import_module(f"{__name__}.{home}"))


def relatives(ending: str) -> tuple[str, ...]:
    """All endings of the format that `ending` belongs to."""
    return tuple(other for other, home in _HOME.items() if home == _HOME[ending])


def all_files(path: Path) -> tuple[Path, ...]:
    """The files that a scan consists of: `path`, and data files that a header names."""
    if path.is_dir():
        return tuple(sorted(file for file in path.iterdir() if file.is_file()))
    if ending_of(path) in (".nhdr", ".mhd") and path.is_file():
        from semiseg.scans.formats.detached import data_files

        return (path, *data_files(path))
    return (path,)
