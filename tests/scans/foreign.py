"""Scans in other formats than NIfTI, written by the libraries that people write them with."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from semiseg.scans.formats.base import kept_locale

SERIES = "1.2.826.0.1.3680043.8.498.1"
_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def voxels(shape: tuple[int, ...] = (7, 6, 5), dtype: type = np.int16) -> np.ndarray:
    """Values without any symmetry, all different from their neighbours."""
    return np.random.default_rng(0).permutation(int(np.prod(shape))).reshape(shape).astype(dtype)


def directions() -> Iterator[np.ndarray]:
    """All 48 orders and signs of the axes, each also turned by an odd angle."""
    turn = _rotation(0.3) @ _rotation(0.2)[[1, 2, 0]][:, [1, 2, 0]]
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        matrix = np.eye(3)[:, order] * np.array(signs)
        yield matrix
        yield turn @ matrix


def _rotation(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def affine_of(
    direction: np.ndarray,
    spacing: tuple[float, float, float] = (0.7, 1.1, 2.5),
    origin: tuple[float, float, float] = (-20.5, 31.25, 7.75),
) -> np.ndarray:
    """RAS+ affine of a scan whose direction and origin are given as ITK gives them (LPS)."""
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(spacing)
    affine[:3, 3] = origin
    return np.asarray(_RAS @ affine)


def write_sitk(path: Path, array: np.ndarray, affine: np.ndarray | None = None, *, compress: bool = False) -> Path:
    """Write `[X, Y, Z]`, `[X, Y]` or, as a vector image, `[C, X, Y, Z]`."""
    vector = array.ndim == 4
    image = sitk.GetImageFromArray(array.T, isVector=vector)
    if affine is not None:
        lps = _RAS @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    with kept_locale():
        sitk.WriteImage(image, str(path), compress)
    return path


def write_dicom(
    folder: Path,
    array: np.ndarray,
    affine: np.ndarray,
    *,
    series: str = SERIES,
    modality: str = "MR",
    prefix: str = "",
    rescale: tuple[float, float] | None = None,
) -> Path:
    """Write `[X, Y, Z]` (int16) as a series whose file names say nothing of the order of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    lps = _RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    count = array.shape[2]
    for number in range(count):
        plane = sitk.GetImageFromArray(array[:, :, number].T[None])
        plane.SetSpacing([float(spacing[0]), float(spacing[1]), float(spacing[2])])
        tags = {
            "0010|0010": "Secret^Person",
            "0008|0060": modality,
            "0020|000e": series,
            "0020|000d": "1.2.826.0.1.3680043.8.498.2",
            "0008|0018": f"{series}.{number + 1}",
            "0020|0013": str(number),
            "0020|0032": "\\".join(f"{value:.9g}" for value in lps[:3, 3] + number * lps[:3, 2]),
            "0020|0037": "\\".join(f"{value:.9g}" for value in direction[:, :2].T.ravel()),
            "0018|0050": f"{spacing[2]:.9g}",
        }
        if rescale:
            tags |= {"0028|1053": str(rescale[0]), "0028|1052": str(rescale[1])}
        for key, value in tags.items():
            plane.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{prefix}{(number * 7) % count if count % 7 else number:03d}.dcm"))
        with kept_locale():
            writer.Execute(plane)
    return folder


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG whose header says whatever is wanted."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
