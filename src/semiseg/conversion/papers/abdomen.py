"""AMOS and Synapse as DHC and MICD treat them: one fixed grid for all scans, one window of intensities.

Code of reference: xmed-lab/DHC and xmed-lab/GenericSSL. Nothing is reoriented and no spacing is looked at; the order of
axes does not matter, for grids are given in the order of the array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from semiseg.conversion.papers.base import Found, Item, Options, Scan
from semiseg.conversion.papers.file_patterns import files_like, pairs
from semiseg.conversion.papers.official import Lists, budgets
from semiseg.conversion.papers.reading import read_npy, read_volume
from semiseg.datasets.splits import Split

Array = np.ndarray[Any, np.dtype[Any]]

WINDOW = (-75.0, 275.0)
"""Intensities beyond it are clipped: Hounsfield units for CT; the papers treat MRI alike."""

STATIC_GRID = (160, 160, 80)
"""Voxels along x, y and z of every resized scan: a patch of 128 x 128 x 64 and a quarter more."""


def resize_image(image: Array, sides: Sequence[int]) -> Array:
    """`image` `[A, B, C]` on a grid of `sides`, float32: trilinear, half-pixel centres, no smoothing."""
    import torch  # here, because listing the datasets should not wait for it

    source = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None, None]
    scaled = torch.nn.functional.interpolate(source, size=tuple(sides), mode="trilinear", align_corners=False)
    return np.asarray(scaled[0, 0].numpy())


def resize_label(label: Array, sides: Sequence[int]) -> Array:
    """`label` `[A, B, C]` on a grid of `sides`, dtype kept: voxel i of n reads voxel floor(i m / n) of m, as torch."""
    for axis, side in enumerate(sides):
        scale = np.float32(label.shape[axis] / side)  # its rounding decides where i m / n is a whole number
        voxels = np.floor(np.arange(side, dtype=np.float32) * scale).astype(np.intp)
        label = np.take(label, np.minimum(voxels, label.shape[axis] - 1), axis=axis)
    return label


def scale_window(image: Array, window: tuple[float, float] = WINDOW) -> Array:
    """`image` clipped to `window`, then to [0, 1] by the clipped volume's own range; float32, a constant becomes 0."""
    clipped = np.clip(np.asarray(image, dtype=np.float32), *window)
    low, high = clipped.min(), clipped.max()
    return np.asarray((clipped - low) / (high - low), dtype=np.float32) if high > low else np.zeros_like(clipped)


def halved(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """`shape` with half as many voxels along `axes`: the in-plane grid of the present DHC code for Synapse."""
    return tuple(side // 2 if axis in axes else side for axis, side in enumerate(shape))


def regrid_affine(affine: Array, old: Sequence[int], new: Sequence[int]) -> Array:
    """Affine `[4, 4]` of a scan of `old` voxels after its field of view was divided into `new` voxels."""
    factors = np.array(old) / np.array(new)
    moved = np.array(affine, dtype=np.float64)
    moved[:3, :3] = affine[:3, :3] * factors
    moved[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((factors - 1) / 2)
    return moved


class AbdomenOptions(Options):
    """How scans are brought to the papers' grid and intensities."""

    intensities: Literal["window", "raw"] = Field(
        "window", description="window: clipped to -75 ... 275 and scaled to 0 ... 1, as the papers; raw: as in the file"
    )
    spacing: Literal["voxel", "scan"] = Field(
        "voxel",
        description="of resized scans. voxel: 1 mm, so that nothing is resampled again and distances count voxels of "
        "the grid, as in the papers; scan: the scan's own, divided anew",
    )


def grid_notes(options: Any) -> tuple[str, ...]:
    """What the user should know of the spacing of resized scans."""
    if options.grid == "native" or options.spacing == "scan":
        return ()
    return ("resized scans get voxels of 1 mm, so distances count voxels of the grid; spacing=scan keeps millimetres",)


def to_grid(image: Array, label: Array, affine: Array, options: Any) -> Scan:
    """A scan `[X, Y, Z]` on the grid `static`, `halved` or `native` of `options`, intensities as they say.

    The static grid is made of raw intensities, which are clipped afterwards; halving comes after clipping, as the
    public code has it.
    """
    window = options.intensities == "window"
    sides = {"static": STATIC_GRID, "native": image.shape, "halved": halved(image.shape, (0, 1))}[options.grid]
    if options.grid == "halved" and window:
        image = scale_window(image)
    if sides != image.shape:
        unit = options.spacing == "voxel"
        affine = np.eye(4) if unit else regrid_affine(affine, image.shape, sides)
        image, label = resize_image(image, sides), resize_label(label, sides)
    if options.grid != "halved" and window:
        image = scale_window(image)
    return Scan(image[None], label, affine)


def convert_nifti(item: Item, options: Any) -> Scan:
    """A scan of the download."""
    image, affine = read_volume(item.images[0])
    return to_grid(image, read_volume(item.label_file)[0], affine, options)


def convert_npy(item: Item, options: Any) -> Scan:
    """A scan of the copy in npy files, `[Z, Y, X]`, at any size; it has no spacing, and 1 mm is written."""
    return to_grid(read_npy(item.images[0]).T, read_npy(item.label_file).T, np.eye(4), options)


def find_npy(source: Path, case: str) -> Found:
    """Pairs of npy files whose case matches the pattern `case`."""
    images = {match["case"]: path for match, path in files_like(source, rf"(?P<case>{case})_image\.npy")}
    labels = {match["case"]: path for match, path in files_like(source, rf"(?P<case>{case})_label\.npy")}
    return pairs(images, labels, "CASE_image.npy", "CASE_label.npy")


def list_budgets(lists: Mapping[str, Any]) -> dict[str, Split]:
    """Split files of each published labelled list; the lists are draws of their own, none is part of another."""
    found: dict[str, Split] = {}
    for name, labelled in lists.items():
        if name.startswith("labelled"):
            order = [*labelled, *(case for case in lists["train"] if case not in labelled)]
            source = f"{lists['source']}, {name}"
            found |= budgets(Lists(order, lists["test"], lists["validation"], source), (len(labelled),))
    return found
