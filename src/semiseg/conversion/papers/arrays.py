"""What the preprocessing scripts of several datasets share, as pure functions on arrays `[X, Y, Z]`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from semiseg.scans.boxes import Spans

Array = np.ndarray[Any, np.dtype[Any]]


def window(values: Array, low: float, high: float) -> Array:
    """`values` clipped to `low ... high` and scaled to 0 ... 1, float32."""
    clipped = np.clip(values.astype(np.float32), low, high)
    return np.asarray((clipped - np.float32(low)) / np.float32(high - low))


def unit_range(values: Array) -> Array:
    """`values` to [0, 1] by their own smallest and largest, float32; a constant becomes 0."""
    values = np.asarray(values, dtype=np.float32)
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low), dtype=np.float32) if high > low else np.zeros_like(values)


def zscore(values: Array) -> Array:
    """Zero mean and unit (population) standard deviation over all voxels, float32; a constant becomes zero."""
    mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    return np.asarray((values - mean) / (std or 1.0), dtype=np.float32)


def crop_affine(affine: Array, spans: Spans) -> Array:
    """Affine `[4, 4]` of the part of a volume that `spans` cut out."""
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ [span.start or 0 for span in spans]
    return moved


def scale_affine(affine: Array, factors: Sequence[float]) -> Array:
    """Affine `[4, 4]` after voxel sides were multiplied by `factors`; the centre of the first voxel stays."""
    scaled: Array = affine @ np.diag([*factors, 1.0])
    return scaled


def case_generator(seed: int, case: str) -> np.random.Generator:
    """Random numbers of one case, whatever other cases there are."""
    return np.random.default_rng([seed, *hashlib.sha256(case.encode()).digest()])
