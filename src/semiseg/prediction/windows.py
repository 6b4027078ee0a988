"""Sliding-window prediction, batched, with the accumulator on the device and bounded memory.

Windows are sorted along the first axis, so rows that no later window reaches are final: only the rows under the
current windows are accumulated, and finished slabs leave as probabilities or, `sliding_labels`, as labels at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from semiseg.errors import InputError
from semiseg.prediction.batching import WindowBatch, room_for, with_room
from semiseg.prediction.voting import voted

Predict = Callable[[Tensor], Tensor]
Weights = Literal["uniform", "gaussian"]


def window_starts(size: int, patch: int, stride: int) -> list[int]:
    """Where the windows along one axis start; the last one is moved back to end at the border."""
    if size <= patch:
        return [0]
    return [min(stride * index, size - patch) for index in range(math.ceil((size - patch) / stride) + 1)]


def sliding_windows(
    predict: Predict,
    image: Tensor,
    patch: Sequence[int],
    stride: Sequence[int],
    *,
    batch: int | WindowBatch = 1,
    weights: Weights = "uniform",
) -> Tensor:
    """Class probabilities of a whole image, averaged over overlapping windows.

    An axis shorter than the patch is padded with zeros on both sides (the odd voxel at the end), and the result is cut
    back. With a 2D patch and a volume, the windows are slices along the last axis.

    Args:
        predict: maps images `[B, channels, *patch]` to probabilities `[B, C, *patch]`; called without gradient.
        image: `[channels, *S]`, on the device that `predict` expects.
        patch: window size per axis.
        stride: steps between windows per axis, 1 to the patch size.
        batch: windows per call of `predict`, halved where memory runs out; a `WindowBatch` remembers that.
        weights: `uniform` counts every voxel of a window equally; `gaussian` trusts its centre more than its border,
            with a standard deviation of an eighth of the patch.

    Returns:
        `[C, *S]`, float32, where `predict` put its output. Memory there: this, a slab (`C` times the patch's first side
        times the section of the image, 4 bytes), and one batch in and out. What a device has no room for, the batch
        excepted, is kept on the host.

    Raises:
        InputError: patch, stride, batch or weights do not fit the image or each other, or there is no memory for one
            window.
    """
    probabilities: Tensor | None = None
    for row, slab in _slabs(predict, image, _Plan.of(image, patch, stride, weights), batch):
        if probabilities is None:
            probabilities = room_for((slab.shape[0], *image.shape[1:]), slab.dtype, slab.device)
        probabilities[:, row : row + slab.shape[1]] = slab
    assert probabilities is not None, "every image has at least one window"
    return probabilities


def sliding_labels(
    predict: Predict,
    image: Tensor,
    patch: Sequence[int],
    stride: Sequence[int],
    *,
    batch: int | WindowBatch = 1,
    weights: Weights = "uniform",
    shape: Sequence[int] | None = None,
) -> Tensor:
    """The class with the highest probability of `sliding_windows`, `[*S]` uint8 (int64 beyond 256 classes).

    The probabilities of the whole image never exist: besides the labels, memory holds a slab, a batch, and what `voted`
    needs, which is little.

    Args:
        predict, image, patch, stride, batch, weights: those of `sliding_windows`.
        shape: voxels of another grid over the same field of view, for which probabilities are interpolated.
    """
    plan = _Plan.of(image, patch, stride, weights)
    return voted((slab for _, slab in _slabs(predict, image, plan, batch)), plan.size, shape or plan.size)


def cut_windows(image: Tensor, patch: Sequence[int], stride: Sequence[int], *, batch: int = 1) -> Iterator[Tensor]:
    """The windows of `sliding_windows` themselves, `[B, channels, *patch]` with at most `batch` at a time.

    Padding is 0. Images of one size are cut alike.

    Raises:
        InputError: patch, stride or batch do not fit the image or each other.
    """
    plan = _Plan.of(image, patch, stride, "uniform")
    for _, patches in _cut_batches(image, plan, batch):
        yield patches.squeeze(-1) if plan.flat else patches


def tile_windows(image: Tensor, patch: Sequence[int], *, batch: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    """Windows side by side, `[B, channels, *patch]`, and a mask `[B, *patch]` of what each one shows first.

    Windows overlap where the last one along an axis is moved back. Every voxel of the image is in one mask exactly;
    padding is in none.

    Raises:
        InputError: patch or batch do not fit the image.
    """
    plan = _Plan.of(image, patch, patch, "uniform")
    for starts, patches in _cut_batches(image, plan, batch):
        axes = [torch.stack(axis) for axis in zip(*map(plan.shown_first, starts), strict=True)]
        shown = _outer([_placed(axis, image.device) for axis in axes]) > 0
        yield (patches.squeeze(-1), shown.squeeze(-1)) if plan.flat else (patches, shown)


@dataclass(frozen=True)
class _Plan:
    """Geometry of the windows, one entry per axis of the image."""

    size: tuple[int, ...]
    patch: tuple[int, ...]
    starts: tuple[list[int], ...]
    weights: tuple[Tensor, ...]
    flat: bool

    @classmethod
    def of(cls, image: Tensor, patch: Sequence[int], stride: Sequence[int], weights: Weights) -> _Plan:
        size = tuple(image.shape[1:])
        flat = len(patch) == 2 and len(size) == 3
        if flat:
            patch, stride = (*patch, 1), (*stride, 1)
        _check(size, patch, stride, weights)
        return cls(
            size=size,
            patch=tuple(patch),
            starts=tuple(window_starts(*axis) for axis in zip(size, patch, stride, strict=True)),
            weights=tuple(_axis_weights(side, weights) for side in patch),
            flat=flat,
        )

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        missing = (max(side - size, 0) for side, size in zip(self.patch, self.size, strict=True))
        return tuple((lack // 2, lack - lack // 2) for lack in missing)

    def shown_first(self, start: Sequence[int]) -> list[Tensor]:
        """Per axis, 1 where the window at `start` shows what the window before it does not, inside of the image."""
        axes = []
        for axis, first in enumerate(start):
            side, (low, _) = self.patch[axis], self.padding[axis]
            index = self.starts[axis].index(first)
            reached = self.starts[axis][index - 1] + side if index else 0
            place = first + torch.arange(side)
            axes.append(((place >= max(reached, low)) & (place < low + self.size[axis])).double())
        return axes

    def coverage(self, axis: int) -> Tensor:
        """Sum of the window weights at each position of the padded axis; over axes it is an outer product."""
        total = torch.zeros(max(self.size[axis], self.patch[axis]), dtype=torch.float64)
        for start in self.starts[axis]:
            total[start : start + self.patch[axis]] += self.weights[axis]
        return total


def _check(size: Sequence[int], patch: Sequence[int], stride: Sequence[int], weights: str) -> None:
    if not len(size) == len(patch) == len(stride):
        raise InputError(
            f"expected patch and stride with one number per axis of an image {list(size)}, "
            f"came patch {list(patch)} and stride {list(stride)}"
        )
    if not all(1 <= step <= side for step, side in zip(stride, patch, strict=True)):
        raise InputError(
            f"expected strides between 1 and the patch size {list(patch)} so that every voxel is seen, "
            f"came {list(stride)}"
        )
    if weights not in ("uniform", "gaussian"):
        raise InputError(f"expected window weights 'uniform' or 'gaussian', came {weights!r}")


def _axis_weights(side: int, weights: Weights) -> Tensor:
    if weights == "uniform":
        return torch.ones(side, dtype=torch.float64)
    offset = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    return torch.exp(-0.5 * (8 * offset / side) ** 2)


def _slabs(predict: Predict, image: Tensor, plan: _Plan, batch: int | WindowBatch) -> Iterator[tuple[int, Tensor]]:
    """Finished rows in order: `(first row, probabilities [C, rows, ...])` without the padding, valid until the next."""
    window = rows = None
    coverage: list[Tensor] = []
    starts = plan.starts[0]
    ends = [*starts[1:], max(plan.size[0], plan.patch[0])]
    for start, group in itertools.groupby(_predicted(predict, image, plan, batch), key=lambda item: item[0][0]):
        for position, probabilities in group:
            if window is None or rows is None:
                section = [max(size, side) for size, side in zip(plan.size[1:], plan.patch[1:], strict=True)]
                rows = room_for((probabilities.shape[0], plan.patch[0], *section), torch.float32, probabilities.device)
                rows.zero_()
                window = _outer([_placed(axis, rows.device) for axis in plan.weights])
                coverage = [_placed(plan.coverage(axis), rows.device) for axis in range(len(plan.size))]
            inside = [slice(low, low + side) for low, side in zip(position[1:], plan.patch[1:], strict=True)]
            rows[(slice(None), slice(None), *inside)].addcmul_(probabilities.to(rows.device), window)
        assert rows is not None, "a group is never empty"
        finished = ends[starts.index(start)] - start
        yield start, _normalised(rows[:, :finished], start, coverage, plan)
        for row in range(finished, rows.shape[1]):  # one by one, so that no second slab is made
            rows[:, row - finished] = rows[:, row]
        rows[:, -finished:] = 0


def _normalised(rows: Tensor, start: int, coverage: Sequence[Tensor], plan: _Plan) -> Tensor:
    mean = rows.div_(_outer([coverage[0][start : start + rows.shape[1]], *coverage[1:]]))
    for axis, ((before, _), size) in enumerate(zip(plan.padding, plan.size, strict=True), start=1):
        # A first axis that is not padded comes in slabs shorter than the image.
        mean = mean.narrow(axis, before, min(size, mean.shape[axis] - before))
    return mean


def _outer(axes: Sequence[Tensor]) -> Tensor:
    """Product of axes `[..., side]` with the same leading shape, `[..., *sides]`."""
    product = axes[0]
    for axis in axes[1:]:
        product = product.unsqueeze(-1) * axis.view(*axis.shape[:-1], *(1,) * (product.ndim - axis.ndim + 1), -1)
    return product


def _placed(axis: Tensor, device: torch.device) -> Tensor:
    """In float32, copied without waiting for the device."""
    return axis.float().to(device, non_blocking=True)


def _predicted(
    predict: Predict, image: Tensor, plan: _Plan, batch: int | WindowBatch
) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Every window in scan order of its start: `(start per axis, probabilities [C, *patch] float32)`."""

    def call(chunk: Sequence[tuple[int, ...]]) -> Tensor:
        patches = torch.stack([_cut(padded, start, plan.patch) for start in chunk]).to(image.device)
        with torch.no_grad():
            out = predict(patches.squeeze(-1)).unsqueeze(-1) if plan.flat else predict(patches)
        if out.shape[0] != len(chunk) or out.shape[2:] != patches.shape[2:]:
            raise ValueError(f"predict returned {tuple(out.shape)} for windows {tuple(patches.shape)}")
        return out.float()

    padded = _padded(image, plan)
    batch = WindowBatch(batch) if isinstance(batch, int) else batch
    for chunk, out in batch.over(call, list(itertools.product(*plan.starts))):
        yield from zip(chunk, out, strict=True)


def _cut_batches(image: Tensor, plan: _Plan, batch: int) -> Iterator[tuple[list[tuple[int, ...]], Tensor]]:
    """Starts of some windows in scan order, and these windows `[B, channels, *patch]`."""
    padded = _padded(image, plan)
    positions = itertools.product(*plan.starts)
    while chunk := list(itertools.islice(positions, WindowBatch(batch).size)):
        yield chunk, torch.stack([_cut(padded, position, plan.patch) for position in chunk])


def _padded(image: Tensor, plan: _Plan) -> Tensor:
    sides = [pad for axis in reversed(plan.padding) for pad in axis]
    return with_room(lambda where: functional.pad(image.to(where), sides), image.device)


def _cut(image: Tensor, position: Sequence[int], patch: Sequence[int]) -> Tensor:
    for axis, (low, side) in enumerate(zip(position, patch, strict=True), start=1):
        image = image.narrow(axis, low, side)
    return image
