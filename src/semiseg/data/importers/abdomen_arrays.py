"""AMOS and Synapse as DHC and MICD treat them: one fixed grid for all scans, one window of intensities.

Code of reference: xmed-lab/DHC and xmed-lab/GenericSSL. Nothing is reoriented and no spacing is looked at; the order of
axes does not matter, for grids are given in the order of the array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

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
