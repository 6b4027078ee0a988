"""Temporal ensembling: targets from the predictions of past students."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from semiseg.ingredients.class_sums import probabilities
from semiseg.ingredients.ema import ema_update, ema_update_buffers
from semiseg.ingredients.ramps import Counts
from semiseg.networks.base import Network, Tap
from semiseg.networks.modules import ModuleListOf

KEPT = 4
"""Past students, each a whole network."""
MOMENTUM = 0.6
"""Weight of the older predictions, that of Laine and Aila; the paper gives none."""


class Snapshots(nn.Module):
    """A moving average of *predictions* of the student, taken now and then (after arXiv:1610.02242).

    P <- a P + (1 - a) p with the student's p of that time. Instead of storing P for every voxel of every scan, the
    last few students are kept and asked again, so that crops and augmentation need no bookkeeping. The oldest one
    stands for all that were before it. Predictions are made with running statistics and without dropout.

    Args:
        student: their network.
        every: share of the run between them.
    """

    def __init__(self, student: Network, every: float) -> None:
        super().__init__()
        self.every = every
        self.nets = ModuleListOf(deepcopy(student).requires_grad_(False) for _ in range(KEPT))
        self.taken, self.period = 1, 0

    @property
    def taps(self) -> dict[str, Tap]:
        """Features of the networks."""
        return self.nets[0].taps

    def train(self, mode: bool = True) -> Snapshots:
        """Always evaluation."""
        return super().train(False)

    @property
    def shares(self) -> list[float]:
        """Weights of the predictions, newest first; they sum to one."""
        newer = [(1 - MOMENTUM) * MOMENTUM**age for age in range(self.taken - 1)]
        return [*newer, MOMENTUM ** (self.taken - 1)]

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B, C, *S]` of the mean probabilities."""
        return self._mean([net(images) for net in self._kept])

    @torch.no_grad()
    def tapped(self, images: Tensor, taps: tuple[str, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """The same with the heads called in `taps` (at least one); features among them are those of the newest."""
        heads = tuple(name for name in taps if "head" in name)
        logits, features = self.nets[0](images, taps)
        found = [features | {_MAIN: logits}]
        for net in self._kept[1:]:
            logits, older = net(images, heads) if heads else (net(images), {})
            found.append(older | {_MAIN: logits})
        mean = {name: self._mean([each[name] for each in found]) for name in (_MAIN, *heads)}
        return mean[_MAIN], {name: mean.get(name, features[name]) for name in taps}

    def follow(self, student: Network, clock: Counts) -> None:
        """Keep `student` in place of the oldest once another share of the run is over."""
        period = int((clock.step + 1) / max(self.every * clock.steps, 1))
        if period == self.period:
            return
        for age in range(len(self.nets) - 1, 0, -1):
            _copy(self.nets[age], self.nets[age - 1])
        _copy(self.nets[0], student)
        self.taken, self.period = min(self.taken + 1, len(self.nets)), period

    def extra_state(self) -> dict[str, int]:
        """Counters that are neither parameters nor buffers."""
        return {"taken": self.taken, "period": self.period}

    def load_extra_state(self, state: dict[str, int]) -> None:
        """Take back what `extra_state` gave."""
        self.taken, self.period = state["taken"], state["period"]

    @property
    def _kept(self) -> list[Network]:
        return list(self.nets)[: self.taken]

    def _mean(self, logits: Sequence[Tensor]) -> Tensor:
        parts = zip(self.shares, logits, strict=True)
        mean = torch.stack([share * probabilities(z) for share, z in parts]).sum(0)
        return mean.clamp(min=torch.finfo(mean.dtype).tiny).log()


_MAIN = ""


def _copy(net: Network, source: Network) -> None:
    ema_update(net, source, 0.0)
    ema_update_buffers(net, source, 0.0)
