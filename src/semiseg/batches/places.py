"""Where in its scan a patch comes from, and the way there and back for maps such as probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.batches.augment import Params
from semiseg.batches.augment_spatial import (
    Read,
    centre_crop,
    flip,
    quarter_turn,
    sampling_grid,
    small,
    warp_or_crop,
)

_INSIDE = 0.999
"""Share of the interpolation that must come from known voxels."""


@dataclass(frozen=True)
class Place:
    """The source window of a patch in its scan, and how the patch was made of the window.

    Attributes:
        corner: first voxel of the window, three numbers (2D: in-plane corner and slice); it may lie outside.
        window: sides of the window, two or three.
        shape: sides of the scan, three numbers.
        params: numbers of the augmentation; only those that move voxels matter here.
    """

    corner: tuple[int, ...]
    window: tuple[int, ...]
    shape: tuple[int, ...]
    params: Params = field(default_factory=Params)

    @classmethod
    def whole(cls, sides: Sequence[int]) -> Place:
        """The place of a patch that is a scan (or slice) of its own."""
        return cls((0, 0, 0), tuple(sides), (*sides, 1)[:3])

    def spans(self) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """The part of the window that lies in the scan: as slices of the scan `[X, Y, Z]`, and of the window.

        In 2D the window counts as one slice thick.
        """
        sides = (*self.window, 1)[:3]
        starts = [min(max(c, 0), n) for c, n in zip(self.corner, self.shape, strict=True)]
        stops = [max(min(c + s, n), a) for c, s, n, a in zip(self.corner, sides, self.shape, starts, strict=True)]
        inner = [
            slice(a - c, b - c) if a < b else slice(0, 0) for a, b, c in zip(starts, stops, self.corner, strict=True)
        ]
        return tuple(slice(a, b) for a, b in zip(starts, stops, strict=True)), tuple(inner)


def to_patches(windows: Tensor, places: Sequence[Place], patch: Sequence[int]) -> Tensor:
    """Maps on source windows `[B, C, *window]` moved as the images of `places` were, `[B, C, *patch]`."""
    dims = len(patch)
    params = [place.params for place in places]
    reads = [Read(zero=p.zero) for p in params]
    moved, _ = warp_or_crop(windows, None, [p.matrix for p in params], tuple(patch), reads)
    return flip(quarter_turn(moved, [p.turn for p in params], dims), [p.flips for p in params], dims)


def to_windows(patches: Tensor, places: Sequence[Place]) -> tuple[Tensor, Tensor]:
    """Maps on patches `[B, C, *patch]` moved back: `[B, C, *window]`, and which voxels are known, `[B, 1, *window]`.

    Windows of all `places` have equal sides.
    """
    dims = patches.ndim - 2
    params = [place.params for place in places]
    known = patches.new_ones((len(patches), 1, *patches.shape[2:]))
    moved = flip(torch.cat((patches, known), dim=1), [p.flips for p in params], dims)
    moved = quarter_turn(moved, [((4 - p.turn[0]) % 4, *p.turn[1:]) for p in params], dims)
    window = places[0].window
    out = patches.new_zeros((*moved.shape[:2], *window))
    centre_crop(out, patches.shape[2:]).copy_(moved)
    inverses = {row: _inverse(p.matrix) for row, p in enumerate(params) if p.matrix is not None}
    if inverses:
        grid = sampling_grid(list(inverses.values()), patches.shape[2:], window, patches.device)
        index = small(list(inverses), patches.device, torch.int64)
        read = F.grid_sample(moved.index_select(0, index), grid, padding_mode="zeros", align_corners=False)
        out.index_copy_(0, index, read)
    return out[:, :-1], out[:, -1:] > _INSIDE


def known_only(values: Tensor, known: Tensor, places: Sequence[Place], patch: Sequence[int]) -> tuple[Tensor, Tensor]:
    """`to_patches` of `values` with gaps: the moved values, and where they come from known voxels, `[B, 1, *patch]`."""
    moved = to_patches(torch.cat((values * known, known.to(values.dtype)), dim=1), places, patch)
    return moved[:, :-1], moved[:, -1:] > _INSIDE


def _inverse(matrix: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in np.linalg.inv(np.asarray(matrix)))
