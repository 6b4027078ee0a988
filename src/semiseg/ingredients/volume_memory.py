"""Moving averages of predictions on the grid of every scan, fed by the patches that come along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from semiseg.batches.places import Place, known_only, to_windows

_MOST = 255
"""Visits that a voxel counts; by then the correction for the start is 1."""


class VolumeMemory(nn.Module):
    """Per scan and voxel, the average Z <- a Z + (1 - a) z of the class probabilities z of all visits, from Z = 0.

    What is kept is Z / (1 - a^t), t the voxel's visits, in half precision with one byte for t: 2 C + 1 bytes per voxel
    of every scan that has been visited. It is part of the state dict. All processes hold the same memory.

    Args:
        classes: number of classes C.
        decay: a.
    """

    def __init__(self, classes: int, decay: float) -> None:
        super().__init__()
        self.classes, self.decay = classes, decay
        self.register_buffer("device_mark", torch.zeros(0), persistent=False)

    @torch.no_grad()
    def read(self, cases: Sequence[str], places: Sequence[Place], patch: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Averages as patches `[B, C, *patch]`, and which voxels have one, `[B, 1, *patch]`."""
        mean, visits = self._windows(cases, places)
        return known_only(mean, visits > 0, places, patch)

    @torch.no_grad()
    def update(self, cases: Sequence[str], places: Sequence[Place], probabilities: Tensor) -> None:
        """Add a visit of `probabilities` `[B, C, *patch]`."""
        cases, places, probabilities = _of_all_processes(cases, places, probabilities.detach().float())
        news, known = to_windows(probabilities, places)
        for row, (case, place) in enumerate(zip(cases, places, strict=True)):
            outer, inner = place.spans()
            mean, visits = (memory[(slice(None), *outer)] for memory in self._of(case, place))
            value, here = (_thick(moved[row])[(slice(None), *inner)] for moved in (news, known))
            count = (visits + 1.0).clamp(max=_MOST)
            share = (1 - self.decay) / (1 - self.decay**count)
            mean.copy_(torch.where(here, torch.lerp(mean.float(), value, share), mean.float()))
            visits.copy_(torch.where(here, count, visits))

    def _windows(self, cases: Sequence[str], places: Sequence[Place]) -> tuple[Tensor, Tensor]:
        device = self.get_buffer("device_mark").device
        sides = (len(cases), *(*places[0].window, 1)[:3])
        mean = torch.zeros(sides[0], self.classes, *sides[1:], device=device)
        visits = torch.zeros(sides[0], 1, *sides[1:], device=device)
        for row, (case, place) in enumerate(zip(cases, places, strict=True)):
            if _name(case) in self._buffers:
                outer, inner = place.spans()
                for window, memory in zip((mean, visits), self._of(case, place), strict=True):
                    window[row][(slice(None), *inner)] = memory[(slice(None), *outer)].float()
        flat = len(places[0].window) == 2
        return (mean[..., 0], visits[..., 0]) if flat else (mean, visits)

    def _of(self, case: str, place: Place) -> tuple[Tensor, Tensor]:
        if _name(case) not in self._buffers:
            device = self.get_buffer("device_mark").device
            self.register_buffer(_name(case), torch.zeros(self.classes, *place.shape, dtype=torch.half, device=device))
            self.register_buffer(_visits(case), torch.zeros(1, *place.shape, dtype=torch.uint8, device=device))
        return self.get_buffer(_name(case)), self.get_buffer(_visits(case))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Makes room for what is loaded, and forgets what is not."""
        saved = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        device = self.get_buffer("device_mark").device
        for name in [name for name in self._scans() if name not in saved]:
            del self._buffers[name]
        for name, value in saved.items():
            if name.startswith(("mean_", "visits_")):
                self.register_buffer(name, torch.empty_like(value, device=device))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _scans(self) -> Iterator[str]:
        return (name for name in self._buffers if name.startswith(("mean_", "visits_")))


def _name(case: str) -> str:
    return "mean_" + case.replace(".", "%2E")  # module names know dots as steps


def _visits(case: str) -> str:
    return "visits_" + case.replace(".", "%2E")


def _thick(window: Tensor) -> Tensor:
    """`[C, X, Y]` as `[C, X, Y, 1]`."""
    return window if window.ndim == 4 else window.unsqueeze(-1)


def _of_all_processes(
    cases: Sequence[str], places: Sequence[Place], values: Tensor
) -> tuple[Sequence[str], Sequence[Place], Tensor]:
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return cases, places, values
    world = dist.get_world_size()
    heads: list[Any] = [None] * world
    dist.all_gather_object(heads, (tuple(cases), tuple(places)))
    parts = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(world)]
    dist.all_gather(parts, values.contiguous())
    return (
        [case for of_one, _ in heads for case in of_one],
        [place for _, of_one in heads for place in of_one],
        torch.cat(parts),
    )
