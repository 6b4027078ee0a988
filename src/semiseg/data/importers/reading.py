"""Reading source files for importers: NIfTI, NRRD, DICOM, HDF5 and npy as arrays `[X, Y, Z]`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.data.nifti import ENDINGS, read_voxels
from semiseg.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]


def read_volume(path: Path) -> tuple[Array, Array]:
    """Values `[X, Y, Z]` as they are stored (scaled where the file says so) and the affine (voxels -> RAS+ mm).

    `path` is a NIfTI or NRRD file, or a folder that holds one DICOM series.

    Raises:
        InputError: the file is missing or damaged, or the folder holds none or several series.
    """
    if path.name.endswith(ENDINGS):
        return read_voxels(path)
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(_series(path) if path.is_dir() else str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(
            f"{path}: expected a whole scan, came a file that cannot be read ({reason}): download it again"
        ) from None
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), _affine(image)


def _series(folder: Path) -> Sequence[str]:
    import SimpleITK as sitk

    reader: Any = sitk.ImageSeriesReader
    found = reader.GetGDCMSeriesIDs(str(folder))
    if len(found) != 1:
        raise InputError(f"{folder}: expected one DICOM series, came {len(found)}: keep that of the portal-venous scan")
    return list(reader.GetGDCMSeriesFileNames(str(folder), found[0]))


def _affine(image: Any) -> Array:
    """SimpleITK counts towards left and posterior, an affine towards right and anterior."""
    direction = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction, image.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def read_h5(path: Path, names: Sequence[str] = ("image", "label")) -> list[Array]:
    """Data sets `names` of an HDF5 file, whole.

    Raises:
        InputError: the file is damaged or no HDF5 file, or lacks one of them.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            missing = [name for name in names if not isinstance(file.get(name), h5py.Dataset)]
            if missing:
                raise InputError(
                    f"{path}: expected the data sets {', '.join(names)}, came {', '.join(file) or 'none'}: "
                    "check that this is a file of the preprocessed copy"
                )
            return [file[name][()] for name in names]
    except OSError as error:
        raise InputError(
            f"{path}: expected a whole HDF5 file, came a damaged one ({error}): download it again"
        ) from None


def read_npy(path: Path) -> Array:
    """The array in an npy file; pickled objects are refused.

    Raises:
        InputError: the file is damaged or holds no numbers.
    """
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path}: expected an array of numbers, came a damaged file ({error}): download it again"
        ) from None
