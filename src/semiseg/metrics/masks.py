"""A predicted and a true mask with what metrics share: voxel counts, surfaces, distances, each computed once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from semiseg.errors import InputError
from semiseg.metrics.surfaces import Mask, SurfaceDistances, surface, surface_distances


@dataclass(frozen=True, eq=False)
class MaskPair:
    """A prediction P and a truth T on one grid, `[*S]`, 2D or 3D.

    Attributes:
        spacing: voxel size per axis in mm.
        prediction_voxels, truth_voxels: |P| and |T|.
    """

    prediction: Mask
    truth: Mask
    spacing: tuple[float, ...]
    prediction_voxels: int
    truth_voxels: int

    @classmethod
    def of(cls, prediction: ArrayLike, truth: ArrayLike, spacing: Sequence[float] | None = None) -> MaskPair:
        """A pair of arrays, in which what is not zero is foreground; voxels are 1 mm where no spacing is given.

        Raises:
            InputError: shapes differ or are not 2D or 3D, or the spacing does not fit.
        """
        predicted, true = np.asarray(prediction).astype(bool, copy=False), np.asarray(truth).astype(bool, copy=False)
        if predicted.shape != true.shape or predicted.ndim not in (2, 3):
            raise InputError(
                f"expected two masks of one shape with 2 or 3 axes, came {predicted.shape} and {true.shape}: "
                "give the masks of one class on the same grid"
            )
        steps = _checked_spacing(spacing, predicted.ndim)
        return cls(predicted, true, steps, int(np.count_nonzero(predicted)), int(np.count_nonzero(true)))

    def cropped(self) -> MaskPair:
        """The pair in the box that holds both masks; outside it all is background, so no surface changes."""
        union = self.prediction | self.truth
        box = []
        for axis in range(union.ndim):
            filled = np.flatnonzero(union.any(axis=tuple(other for other in range(union.ndim) if other != axis)))
            box.append(slice(filled[0], filled[-1] + 1))
        return replace(self, prediction=self.prediction[tuple(box)], truth=self.truth[tuple(box)])

    @cached_property
    def common(self) -> int:
        """|P and T|."""
        return int(np.count_nonzero(self.prediction & self.truth))

    @property
    def isotropic(self) -> bool:
        """Whether mm are voxels times one number."""
        return len(set(self.spacing)) == 1

    @cached_property
    def surfaces(self) -> tuple[Mask, Mask]:
        """Surface of the prediction and of the truth."""
        return surface(self.prediction), surface(self.truth)

    @cached_property
    def voxel(self) -> SurfaceDistances:
        """Distances between the surfaces in voxels; neither mask is empty."""
        return surface_distances(*self.surfaces, (1.0,) * self.truth.ndim)

    @cached_property
    def mm(self) -> SurfaceDistances:
        """Distances between the surfaces in mm; neither mask is empty."""
        return surface_distances(*self.surfaces, self.spacing)


def _checked_spacing(spacing: Sequence[float] | None, axes: int) -> tuple[float, ...]:
    steps = (1.0,) * axes if spacing is None else tuple(float(step) for step in spacing)
    if len(steps) != axes or not all(math.isfinite(step) and step > 0 for step in steps):
        raise InputError(f"expected a spacing of {axes} positive numbers (mm), came {steps}")
    return steps
