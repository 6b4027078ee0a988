"""Where the voxels of a batch come from: scans mapped from disk, or scans that lie on the device.

Both give the same windows bit by bit. On a CPU the mapped scans *are* the resident ones: once the operating system
holds them in memory, a window of a map is copied as fast as one of an array (`benchmarks/feed.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from semiseg.batches.augment_spatial import small

SHARE = 0.25
"""Of a GPU's free memory that scans may take."""

KEPT_OPEN = 2**30
"""Bytes of memory maps that stay open: pages of a map count as memory of the process, although others may have them."""

Array = np.ndarray[Any, np.dtype[Any]]


class Window(NamedTuple):
    """A box of a scan: its first voxel, three numbers, may lie outside; labelled ones come first in a batch."""

    case: str
    corner: tuple[int, ...]
    labelled: bool


class Scans(Protocol):
    """Prepared scans, such as a store."""

    def image(self, case: str) -> Array: ...
    def label(self, case: str) -> Array: ...


class Maps:
    """Prepared scans, of which the first that are asked for stay open."""

    def __init__(self, scans: Scans) -> None:
        self._scans = scans
        self._kept: dict[tuple[str, bool], Array] = {}
        self._room = KEPT_OPEN

    def image(self, case: str) -> Array:
        """The image of `case`, `[C, X, Y, Z]`."""
        return self._opened(case, label=False)

    def label(self, case: str) -> Array:
        """The label of `case`, `[X, Y, Z]`."""
        return self._opened(case, label=True)

    def _opened(self, case: str, *, label: bool) -> Array:
        found = self._kept.get((case, label))
        if found is None:
            found = np.asarray(self._scans.label(case) if label else self._scans.image(case))
            if found.nbytes <= self._room:
                self._kept[case, label] = found
                self._room -= found.nbytes
        return found


class Feed(Protocol):
    """Windows of scans as tensors on a device.

    `read` is the part that may be done ahead in another thread, `deliver` the rest: images `[B, C, *sides]` float16 and
    labels `[n, *sides]` uint8, None without any; zero where a window leaves its scan.

    Attributes:
        resident: bytes of scans that it keeps on the device.
    """

    resident: int

    def read(self, windows: Sequence[Window]) -> Any: ...
    def deliver(self, read: Any) -> tuple[Tensor, Tensor | None]: ...


class MappedFeed:
    """Copies windows from memory maps; for a GPU into page-locked memory, from where it fetches them.

    Args:
        store: the scans.
        sides: of the windows, two or three.
        device: where the tensors go.
    """

    def __init__(self, store: Scans, sides: Sequence[int], device: torch.device) -> None:
        self._store, self._sides, self._device = store, tuple(sides), device
        self.resident = 0

    def read(self, windows: Sequence[Window]) -> tuple[Tensor, Tensor | None]:
        """The windows in host memory."""
        images = self._stack([(self._store.image(w.case), w.corner) for w in windows])
        named = [(self._store.label(w.case)[None], w.corner) for w in windows if w.labelled]
        return images, self._stack(named)[:, 0] if named else None

    def deliver(self, read: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
        """The windows on the device."""
        images, labels = read
        there = images.to(self._device, non_blocking=True)
        return there, None if labels is None else labels.to(self._device, non_blocking=True)

    def _stack(self, boxes: Sequence[tuple[Array, Sequence[int]]]) -> Tensor:
        volume = boxes[0][0]
        kind = torch.from_numpy(np.empty(0, volume.dtype)).dtype
        shape = (len(boxes), volume.shape[0], *self._sides)
        stack = torch.empty(shape, dtype=kind, pin_memory=self._device.type == "cuda")
        for into, (volume, corner) in zip(stack.numpy(), boxes, strict=True):
            fill(into[..., None] if len(self._sides) == 2 else into, volume, corner)
        return stack


def fill(window: Array, volume: Array, corner: Sequence[int]) -> None:
    """Make `window` `[C, x, y, z]` the part of `volume` `[C, X, Y, Z]` from `corner` on, zero outside of it."""
    spans = [
        (max(c, 0), min(c + side, size))
        for c, side, size in zip(corner, window.shape[1:], volume.shape[1:], strict=True)
    ]
    if _leaves(corner, window.shape[1:], volume.shape[1:]):
        window.fill(0)
    if all(start < stop for start, stop in spans):
        inner = tuple(slice(a - c, b - c) for (a, b), c in zip(spans, corner, strict=True))
        window[(slice(None), *inner)] = volume[(slice(None), *(slice(a, b) for a, b in spans))]


class ResidentFeed:
    """Gathers windows, all of a batch at once, from one buffer on the device that holds all scans.

    Args:
        store: the scans.
        cases: those of the buffer.
        labelled: those of them whose labels are in it too.
        sides: of the windows, two or three.
        device: where the buffer lies.
    """

    def __init__(
        self, store: Scans, cases: Sequence[str], labelled: Sequence[str], sides: Sequence[int], device: torch.device
    ) -> None:
        self._flat, self._device = len(sides) == 2, device
        self._sides = (*sides, 1)[:3]
        self._images = _Buffer({case: store.image(case) for case in dict.fromkeys(cases)}, device)
        self._labels = _Buffer({case: store.label(case)[None] for case in dict.fromkeys(labelled)}, device)
        self.resident = resident_bytes(store, cases, labelled)

    def read(self, windows: Sequence[Window]) -> Sequence[Window]:
        """Nothing has to be read."""
        return windows

    def deliver(self, read: Sequence[Window]) -> tuple[Tensor, Tensor | None]:
        """The windows on the device."""
        images = self._images.gather(read, self._sides)
        named = [window for window in read if window.labelled]
        labels = self._labels.gather(named, self._sides)[:, 0] if named else None
        if self._flat:
            return images[..., 0], None if labels is None else labels[..., 0]
        return images, labels


class _Buffer:
    """Volumes `[C, X, Y, Z]` of one type, one after the other."""

    def __init__(self, volumes: dict[str, Array], device: torch.device) -> None:
        self._shapes = {case: volume.shape for case, volume in volumes.items()}
        ends = np.cumsum([0, *(volume.size for volume in volumes.values())])
        self._starts = dict(zip(volumes, ends.tolist(), strict=False))
        if volumes:
            kind = torch.from_numpy(np.empty(0, next(iter(volumes.values())).dtype)).dtype
            self._values = torch.empty(int(ends[-1]), dtype=kind, device=device)
            for case, volume in volumes.items():
                part = torch.from_numpy(np.array(volume)).flatten()
                self._values[self._starts[case] : self._starts[case] + volume.size].copy_(part)

    def gather(self, windows: Sequence[Window], sides: Sequence[int]) -> Tensor:
        """`[B, C, *sides]` by one indexing operation."""
        device, shapes = self._values.device, [self._shapes[window.case] for window in windows]
        rows = [(self._starts[w.case], *w.corner, *shape[1:]) for w, shape in zip(windows, shapes, strict=True)]
        start, *numbers = small(rows, device, torch.int64).unbind(1)
        corners, sizes = numbers[:3], [size[:, None] for size in numbers[3:]]
        axes = [
            torch.arange(side, device=device) + corner[:, None] for side, corner in zip(sides, corners, strict=True)
        ]
        x, y, z = (axis.clamp(min=0).minimum(size - 1) for axis, size in zip(axes, sizes, strict=True))
        planes = (x * sizes[1])[:, :, None] + y[:, None]
        voxels = (planes * sizes[2][..., None])[..., None] + z[:, None, None]
        starts = start[:, None] + torch.arange(shapes[0][0], device=device) * torch.stack(sizes).prod(0)
        values = self._values.take(voxels[:, None] + starts[..., None, None, None])
        if any(_leaves(row[1:4], sides, row[4:]) for row in rows):
            a, b, c = ((axis >= 0) & (axis < size) for axis, size in zip(axes, sizes, strict=True))
            values.masked_fill_(~(a[:, :, None, None] & b[:, None, :, None] & c[:, None, None])[:, None], 0)
        return values


def _leaves(corner: Sequence[int], sides: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether a window shows something outside of its scan."""
    return any(c < 0 or c + side > size for c, side, size in zip(corner, sides, shape, strict=True))


def resident_bytes(store: Scans, cases: Sequence[str], labelled: Sequence[str]) -> int:
    """Bytes of a buffer of these cases."""
    images = sum(store.image(case).nbytes for case in dict.fromkeys(cases))
    return images + sum(prod(store.label(case).shape) for case in dict.fromkeys(labelled))


def make_feed(
    store: Scans,
    cases: Sequence[str],
    labelled: Sequence[str],
    sides: Sequence[int],
    device: torch.device,
    resident: bool | None = None,
) -> tuple[Feed, str]:
    """The feed for `device`, and why.

    Resident on a GPU as `resident` says; None: where its free memory is four times what the scans take.
    """
    if device.type != "cuda":
        return MappedFeed(store, sides, device), "scans are read from memory maps"
    wanted, free = resident_bytes(store, cases, labelled), torch.cuda.mem_get_info(device)[0]
    allowed = f"{SHARE:.0%} of {free / 2**30:.3g} GiB of free memory allowed" if resident is None else "as asked for"
    sizes = f"{wanted / 2**30:.2g} GiB of scans, {allowed}"
    if resident or (resident is None and wanted <= SHARE * free):
        return ResidentFeed(store, cases, labelled, sides, device), f"scans are kept on the device ({sizes})"
    return MappedFeed(store, sides, device), f"scans are read from memory maps, a step ahead ({sizes})"
