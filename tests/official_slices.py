"""What happens to a training slice of ACDC in the papers' loaders: turned and flipped, or rotated a little, or nothing.

The protocol of SSL4MIS, which BCP, CML and DuCiSC took over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from official_samples import turn_and_flip

Array = np.ndarray[Any, np.dtype[Any]]
Rule = Literal["bcp", "ssl4mis"]

ANGLES = (-20, 20)
"""Whole degrees of the small rotation; the upper end is not drawn."""


@dataclass(frozen=True)
class SliceChange:
    """What happens to a training slice: quarter turns and then a flip along `flip`; or a rotation; or nothing."""

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
    return array if change.flip is None else turn_and_flip(array, change.quarters, change.flip)
