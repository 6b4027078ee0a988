"""Labelled and unlabelled patches as a pure function of (seed, step, rank).

Every patch of a batch has a slot. Which case fills the slot, where the patch lies and how it is augmented follow from
(seed, stream, step, slot) alone, so a batch is the same whatever was drawn before it, however many processes share
the work, and wherever a run was resumed. Cases come in passes: each pass visits every case once in a new order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from semiseg.batches.augment import AugmentConfig, apply, draw, margin
from semiseg.batches.batch import Batch
from semiseg.batches.feed import Maps, Window, make_feed
from semiseg.batches.places import Place
from semiseg.errors import InputError
from semiseg.preparing.store import Store

_LABELLED, _UNLABELLED = 0, 1
_ORDER, _PATCH = 0, 1


@dataclass(frozen=True)
class BatchPlan:
    """What a batch is made of: numbers over all processes, patch sides, share of foreground-centred patches.

    `spacing` is in mm along the sides; None where it is the same along all.
    """

    labelled: int
    unlabelled: int
    patch: tuple[int, ...]
    foreground: float
    augment: AugmentConfig
    spacing: tuple[float, ...] | None = None


def steps_per_epoch(labelled: Sequence[str], unlabelled: Sequence[str], first: int, second: int) -> int:
    """Steps in one pass over the unlabelled cases, or over the labelled ones when no others are trained on.

    A batch has `first` labelled and `second` unlabelled patches.
    """
    return -(-len(unlabelled) // second) if unlabelled and second else -(-len(labelled) // first)


@dataclass(frozen=True)
class Share:
    """This process's part of every batch."""

    rank: int = 0
    world: int = 1

    def of(self, count: int) -> range:
        """Slots of this process among `count`."""
        part = count // self.world
        return range(self.rank * part, (self.rank + 1) * part)


class Batches:
    """`batches(step)` is the batch of that step on this process, on `device`.

    Attributes:
        note: where the scans are read from, and why.
    """

    def __init__(
        self,
        store: Store,
        labelled: Sequence[str],
        unlabelled: Sequence[str],
        plan: BatchPlan,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        share: Share = Share(),
        layout: torch.memory_format = torch.contiguous_format,
        resident: bool | None = None,
    ) -> None:
        _check_share(plan, share)
        self._plan, self._seed = plan, seed
        self._device, self._share, self._layout = torch.device(device), share, layout
        labelled, unlabelled = tuple(labelled), tuple(unlabelled)
        self._streams = (labelled, unlabelled)
        self._counts = (plan.labelled, plan.unlabelled if unlabelled else 0)
        self._source = margin(plan.augment, plan.patch, plan.spacing)
        cases = tuple(dict.fromkeys(labelled + unlabelled))
        maps = Maps(store)
        self._shapes = {case: maps.image(case).shape[1:] for case in cases}
        self._foreground = {case: _foreground_voxels(maps.label(case)) for case in labelled}
        self._feed, self.note = make_feed(maps, cases, labelled, self._source, self._device, resident)

    @property
    def resident(self) -> int:
        """Bytes of scans that are kept on the device."""
        return self._feed.resident

    @property
    def patch(self) -> tuple[int, ...]:
        """Sides of the patches."""
        return self._plan.patch

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass over the unlabelled cases (over the labelled ones when there are no others)."""
        return steps_per_epoch(*self._streams, self._plan.labelled, self._plan.unlabelled)

    def cases(self, step: int) -> tuple[str, ...]:
        """Case ids of all slots of `step` over all processes, labelled first."""
        slots = [(stream, slot) for stream in (_LABELLED, _UNLABELLED) for slot in range(self._counts[stream])]
        return tuple(self._case(stream, step, slot) for stream, slot in slots)

    def __call__(self, step: int) -> Batch:
        """The batch of `step`."""
        return self._to_device(self._read(step))

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches `start` to `stop - 1`; the next one is read from disk while the current one is in use."""
        with ThreadPoolExecutor(max_workers=1) as reader:
            ahead = reader.submit(self._read, start)
            for step in range(start, stop):
                patches = ahead.result()
                if step + 1 < stop:
                    ahead = reader.submit(self._read, step + 1)
                yield self._to_device(patches)

    def _case(self, stream: int, step: int, slot: int) -> str:
        cases = self._streams[stream]
        lap, position = divmod(step * self._counts[stream] + slot, len(cases))
        return cases[int(_order(self._seed, stream, lap, len(cases))[position])]

    def _read(self, step: int) -> _Drawn:
        drawn = _Drawn([], [])
        for stream in (_LABELLED, _UNLABELLED):
            for slot in self._share.of(self._counts[stream]):
                self._draw_slot(drawn, stream, step, slot)
        drawn.read = self._feed.read(drawn.windows)
        return drawn

    def _draw_slot(self, drawn: _Drawn, stream: int, step: int, slot: int) -> None:
        rng = np.random.default_rng((self._seed, _PATCH, stream, step, slot))
        case = self._case(stream, step, slot)
        shape = self._shapes[case]
        corner = self._corner(case, shape, rng, labelled=stream == _LABELLED)
        drawn.windows.append(Window(case, corner, stream == _LABELLED))
        params = draw(self._plan.augment, rng, self._plan.patch, self._plan.spacing)
        drawn.places.append(Place(corner, self._source, shape, params))

    @property
    def _flat(self) -> bool:
        return len(self._plan.patch) == 2

    def _corner(self, case: str, shape: Sequence[int], rng: np.random.Generator, *, labelled: bool) -> tuple[int, ...]:
        """First voxel of the source window (2D: in-plane corner and slice); it may lie outside of the volume."""
        patch = self._plan.patch + (1,) * self._flat
        rooms = [max(size - side, 0) for size, side in zip(shape, patch, strict=True)]
        corner = [int(rng.integers(room + 1)) for room in rooms]
        if labelled and rng.random() < self._plan.foreground and self._foreground[case]:
            voxels = self._foreground[case][rng.integers(len(self._foreground[case]))]
            centre = voxels[rng.integers(len(voxels))]
            corner = [int(np.clip(c - side // 2, 0, room)) for c, side, room in zip(centre, patch, rooms, strict=True)]
        short = [-(max(side - size, 0) // 2) for size, side in zip(shape, patch, strict=True)]  # as prediction pads
        extra = [(source - side) // 2 for source, side in zip((*self._source, 1), patch, strict=False)]
        return tuple(c + s - e for c, s, e in zip(corner, short, extra, strict=True))

    def _to_device(self, drawn: _Drawn) -> Batch:
        images, labels = self._feed.deliver(drawn.read)
        images, augmented = apply(
            images.float(),
            None if labels is None else labels.long(),
            [place.params for place in drawn.places],
            self._plan.patch,
        )
        if augmented is None:
            augmented = images.new_empty((0, *self._plan.patch), dtype=torch.long)
        images = images.to(memory_format=self._layout)
        return Batch(images, augmented, tuple(window.case for window in drawn.windows), tuple(drawn.places))


@dataclass
class _Drawn:
    """What was drawn for a batch, and what its feed has read ahead."""

    windows: list[Window]
    places: list[Place]
    read: Any = None


@lru_cache(maxsize=8)
def _order(seed: int, stream: int, lap: int, count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng((seed, _ORDER, stream, lap)).permutation(count)


def _foreground_voxels(label: np.ndarray[Any, Any], most: int = 20_000) -> list[np.ndarray[Any, Any]]:
    """Coordinates of (at most `most`, evenly taken) voxels of each foreground class that is present."""
    classes = [int(c) for c in np.unique(label) if c]
    found = [np.argwhere(label == c).astype(np.int32) for c in classes]
    return [voxels[:: -(-len(voxels) // most)] for voxels in found]


def _check_share(plan: BatchPlan, share: Share) -> None:
    uneven = {n: c for n, c in (("labelled", plan.labelled), ("unlabelled", plan.unlabelled)) if c % share.world}
    if uneven:
        parts = ", ".join(f"{count} {name} patches" for name, count in uneven.items())
        raise InputError(
            f"{parts} per step cannot be shared evenly by {share.world} processes: "
            f"set batch.labelled and batch.unlabelled to multiples of {share.world}"
        )
