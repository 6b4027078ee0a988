"""Slices of ACDC as the 2D benchmark treats them: intensities, the change of a training slice, the 256 x 256 grid.

The protocol of SSL4MIS, which BCP, CML and DuCiSC took over (Bernard et al., IEEE TMI 2018, for the data). Arrays have
their slices first, `[S, H, W]` or `[H, W]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import ndimage

Array = np.ndarray[Any, np.dtype[Any]]
Rule = Literal["bcp", "ssl4mis"]

SIDES = (256, 256)
"""Sides of the slices that the networks of the papers see."""

ANGLES = (-20, 20)
"""Whole degrees of the small rotation; the upper end is not drawn."""


def scale_volume(image: Array) -> Array:
    """`image` to [0, 1] by its own smallest and largest value, float32; a constant one becomes 0."""
    values = np.asarray(image, dtype=np.float32)
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low), dtype=np.float32) if high > low else np.zeros_like(values)


def resize_slices(array: Array, sides: Sequence[int] = SIDES) -> Array:
    """The last two axes of `array` at `sides` by nearest voxels, corner on corner; dtype kept.

    Sample i of n reads position i (m - 1) / (n - 1) of m: not the half-pixel grid of torch or OpenCV. Images and
    labels alike; label maps of 256 x 256 go back to the native size by the same function.
    """
    factors = [1.0] * (array.ndim - 2) + [new / old for new, old in zip(sides, array.shape[-2:], strict=True)]
    return np.asarray(ndimage.zoom(array, factors, order=0))


@dataclass(frozen=True)
class SliceChange:
    """What happens to a training slice: quarter turns and a flip along `flip`, or a small rotation, or nothing."""

    quarters: int = 0
    flip: int | None = None
    angle: int | None = None


def draw_change(rng: np.random.Generator, rule: Rule = "bcp") -> SliceChange:
    """Draw a change: turn and flip in half of all cases.

    The other half is rotated by the rule of present SSL4MIS; by that of BCP, CML and DuCiSC one half of it is rotated
    and the other left as it is.
    """
    if rng.random() < 0.5:
        return SliceChange(quarters=int(rng.integers(4)), flip=int(rng.integers(2)))
    if rule == "ssl4mis" or rng.random() < 0.5:
        return SliceChange(angle=int(rng.integers(*ANGLES)))
    return SliceChange()


def change_slice(array: Array, change: SliceChange) -> Array:
    """`array` `[H, W]` changed; images and labels alike by nearest voxels, with 0 where a rotation looks outside."""
    if change.angle is not None:
        return np.asarray(ndimage.rotate(array, change.angle, order=0, reshape=False))
    turned = np.rot90(array, change.quarters)
    return np.array(turned if change.flip is None else np.flip(turned, change.flip))
