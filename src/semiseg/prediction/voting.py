"""The most probable class on another grid, of probabilities that come slab by slab along the first axis.

Labels that are brought to a finer grid lose small structures; probabilities that are interpolated do not, and are
interpolated here before the vote. An output row lies between two input rows, so it is voted on as soon as both are
there, and one row of a slab is all that has to wait for the next slab.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semiseg.prediction.batching import room_for
from semiseg.scans.resample import positions

Array = np.ndarray[Any, np.dtype[Any]]

BLOCK = {"cpu": 1 << 18}
"""Voxels that are voted on at once, one row at least: a processor's cache helps with few,"""
LARGE_BLOCK = 1 << 22
"""and other devices are faster with many."""


def voted(slabs: Iterable[Tensor], size: Sequence[int], shape: Sequence[int], *, block: int | None = None) -> Tensor:
    """Most probable class per voxel of a grid of `shape` over the field of view of a grid of `size`.

    Probabilities are interpolated linearly, mirrored at the border, as `resample` does with order 1. Besides slab and
    labels, memory holds one row of probabilities (`C` times its voxels, 4 bytes), and about six volumes of one block
    of one class, whatever the sizes of the grids. Ties go to the class that comes first.

    Args:
        slabs: probabilities `[C, rows, ...]`, which together have `size[0]` rows; each is read before the next is
            asked for, and may then be overwritten.
        size: of the grid that slabs come on.
        shape: of the result.
        block: voxels at once; None: as suits the device.

    Returns:
        `[*shape]` uint8 (int64 beyond 256 classes), on the device of the slabs, or on the host where that has no room.
    """
    taps = [_Taps.of(*axis) for axis in zip(size, shape, strict=True)]
    order = sorted(range(len(taps)), key=lambda axis: shape[axis] / size[axis])  # what shrinks goes first
    labels = kept = None
    done = seen = 0
    for slab in slabs:
        if labels is None:
            dtype = torch.uint8 if len(slab) <= 256 else torch.int64
            labels = room_for(shape, dtype, slab.device)
            rows = _rows(block or BLOCK.get(slab.device.type, LARGE_BLOCK), size, shape)
            placed = {axis: each.on(slab.device) for axis, each in enumerate(taps[1:], start=1) if each.moves}
        whole = seen + slab.shape[1]
        ready = int(np.searchsorted(taps[0].right, whole))
        for low in range(done, ready, rows):
            part = taps[0].part(low, min(low + rows, ready))
            first, last = int(part.left[0]), int(part.right[-1]) + 1
            found = [slab[:, max(first - seen, 0) : last - seen]]
            if first < seen:
                assert kept is not None, "a row before this slab is the last one of the slab before"
                found.insert(0, kept)
            moves = placed | ({0: part.shifted(first).on(slab.device)} if taps[0].moves else {})
            winner = _vote(found, [(axis, moves[axis]) for axis in order if axis in moves], dtype)
            labels[low : low + len(winner)] = winner
        kept, seen, done = slab[:, -1:].clone(), whole, ready
    assert labels is not None, "every image has at least one slab"
    return labels


_Placed = tuple[Tensor, Tensor, Tensor]
"""Left and right voxel and share of the right one, on a device."""


@dataclass(frozen=True)
class _Taps:
    """Between which two voxels of an axis the output voxels lie, and how near to the right one (0 to 1)."""

    left: Array
    right: Array
    share: Array
    moves: bool

    @classmethod
    def of(cls, size: int, wanted: int) -> _Taps:
        place = np.clip(positions(size, wanted), 0, size - 1)  # a border voxel and its mirror image are the same
        left, right = np.floor(place).astype(np.int64), np.ceil(place).astype(np.int64)
        return cls(left, right, (place - left).astype(np.float32), size != wanted)

    def part(self, low: int, high: int) -> _Taps:
        return replace(self, left=self.left[low:high], right=self.right[low:high], share=self.share[low:high])

    def shifted(self, first: int) -> _Taps:
        return replace(self, left=self.left - first, right=self.right - first)

    def on(self, device: torch.device) -> _Placed:
        left, right, share = (
            torch.from_numpy(each).to(device, non_blocking=True) for each in (self.left, self.right, self.share)
        )
        return left, right, share


def _vote(rows: Sequence[Tensor], moves: Sequence[tuple[int, _Placed]], dtype: torch.dtype) -> Tensor:
    """Winning class of one block; `rows` are parts `[C, rows, ...]` of the grid that it is interpolated from."""
    best = winner = None
    for label in range(len(rows[0])):
        score = rows[0][label] if len(rows) == 1 else torch.cat([each[label] for each in rows])
        for axis, taps in moves:
            score = _along(score, axis, taps)
        if best is None or winner is None:
            best, winner = score.clone(), torch.zeros(score.shape, dtype=dtype, device=score.device)
            continue
        # A later winner is a higher number; a maximum is far cheaper than a masked write.
        torch.maximum(winner, (score > best).to(dtype).mul_(label), out=winner)
        torch.maximum(best, score, out=best)
    assert winner is not None, "there is at least one class"
    return winner


def _rows(block: int, size: Sequence[int], shape: Sequence[int]) -> int:
    return max(block // max(math.prod(shape[1:]), math.prod(size[1:])), 1)


def _along(volume: Tensor, axis: int, taps: _Placed) -> Tensor:
    left, right, share = taps
    if axis == volume.ndim - 1:  # neighbours in memory: one index per voxel is faster than one per row
        wide = (*volume.shape[:-1], len(left))
        return volume.gather(axis, left.expand(wide)).lerp_(volume.gather(axis, right.expand(wide)), share)
    share = share.view(-1, *(1,) * (volume.ndim - 1 - axis))
    return volume.index_select(axis, left).lerp_(volume.index_select(axis, right), share)
