"""Training samples of the official 3D loaders (left atrium, pancreas, BraTS), as functions of the numbers they draw.

They turn and flip a whole scan, pad it where it is short, and cut a patch. Three habits differ from what one would
expect: a scan is always mirrored, never merely turned; when any axis is too short, axes up to four voxels longer than
the patch are padded as well; and the last position along an axis is never drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Below = Callable[[int], int]
"""A random whole number from 0 to one below its argument."""

PADDING = 3
"""Voxels added on each side beyond the patch; the CoraNet line of the pancreas adds 1."""


@dataclass(frozen=True)
class SampleDraw:
    """Quarter turns from axis 0 to axis 1, the axis that is then flipped, and the corner in the padded scan."""

    quarters: int
    axis: int
    corner: tuple[int, ...]


def draw_sample(shape: Sequence[int], patch: Sequence[int], below: Below, extra: int = PADDING) -> SampleDraw:
    """The numbers of one sample of a scan of `shape`, in the order in which the official loaders draw them."""
    quarters, axis = below(4), below(2)
    turned = (shape[1], shape[0], shape[2]) if quarters % 2 else tuple(shape)
    before = paddings(turned, patch, extra)
    rooms = [length + 2 * pad - side for length, pad, side in zip(turned, before, patch, strict=True)]
    return SampleDraw(quarters, axis, tuple(below(room) for room in rooms))


def turn_and_flip(array: Array, quarters: int, axis: int) -> Array:
    """`array` `[X, Y, Z]` turned by quarters in its first two axes, then flipped along `axis`."""
    return np.flip(np.rot90(array, quarters), axis)


def paddings(shape: Sequence[int], patch: Sequence[int], extra: int = PADDING) -> tuple[int, ...]:
    """Zeros added on each side of every axis: none unless some axis is no longer than the patch."""
    if all(length > side for length, side in zip(shape, patch, strict=True)):
        return (0,) * len(patch)
    return tuple(max((side - length) // 2 + extra, 0) for length, side in zip(shape, patch, strict=True))


def cut(array: Array, patch: Sequence[int], corner: Sequence[int], extra: int = PADDING) -> Array:
    """The patch of `array` at `corner` of the padded array."""
    padded = np.pad(array, [(pad, pad) for pad in paddings(array.shape, patch, extra)])
    return padded[tuple(slice(start, start + side) for start, side in zip(corner, patch, strict=True))]


def cut_centre(array: Array, patch: Sequence[int], extra: int = PADDING) -> Array:
    """The patch in the centre of `array` (halves are rounded to even numbers)."""
    before = paddings(array.shape, patch, extra)
    lengths = [length + 2 * pad for length, pad in zip(array.shape, before, strict=True)]
    return cut(array, patch, [round((length - side) / 2) for length, side in zip(lengths, patch, strict=True)], extra)


def sample(array: Array, patch: Sequence[int], draw: SampleDraw, extra: int = PADDING) -> Array:
    """The patch of an image or label `[X, Y, Z]` that `draw` describes."""
    return cut(turn_and_flip(array, draw.quarters, draw.axis), patch, draw.corner, extra)


def two_stream_epoch(
    labelled: Sequence[int],
    unlabelled: Sequence[int],
    sizes: tuple[int, int],
    permutation: Callable[[Sequence[int]], Array],
) -> Iterator[tuple[int, ...]]:
    """Batches of one epoch, labelled first: one pass over the labelled, and as many unlabelled as that needs.

    Args:
        labelled, unlabelled: indices of the cases.
        sizes: labelled and unlabelled per batch; labelled cases that fill no batch are dropped.
        permutation: of a list, drawn for the labelled first, and for the unlabelled whenever they run out.
    """
    first = permutation(labelled).tolist()
    second = _endless(unlabelled, permutation)
    for start in range(0, len(first) - sizes[0] + 1, sizes[0]):
        yield (*first[start : start + sizes[0]], *islice(second, sizes[1]))


def _endless(indices: Sequence[int], permutation: Callable[[Sequence[int]], Array]) -> Iterator[int]:
    while True:
        yield from permutation(indices).tolist()
