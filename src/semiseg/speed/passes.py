"""What the steps of methods cost beside each other, counted at one small setting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch

from semiseg.methods.base import Clock, Method, Task, entry
from semiseg.networks import build_network
from semiseg.networks.base import Network
from semiseg.speed.floor import Ledger
from semiseg.speed.operations import LATE, apart, random_batch

FILTERS = (16, 32, 64, 128, 256)
SIDE = 64
PATCHES = 2
"""The setting: a 2D U-Net of the usual width for slices, two classes, two labelled and two unlabelled patches."""


@dataclass(frozen=True)
class Passes:
    """The cost of a step in forward passes of one patch through the run's network.

    Attributes:
        trained: forward operations whose gradient may be asked for.
        free: forward operations without gradient: teachers, pseudo-labels, uncertainty.
        backward: operations of the gradients.
    """

    trained: float
    free: float
    backward: float

    @property
    def total(self) -> float:
        """All operations."""
        return self.trained + self.free + self.backward


@lru_cache
def passes_of(method: str) -> Passes:
    """The cost of a late step of a registered method with its default options, averaged over its stages."""
    build: Callable[..., Network] = partial(
        build_network, "unet", channels=1, classes=2, spatial_dims=2, filters=FILTERS
    )
    with apart():
        built = entry(method).build({}, Task(2, 1, 2, (2, 1), unlabelled=16), build).train()
        batch = random_batch((PATCHES, PATCHES if built.uses_unlabelled else 0), 1, (SIDE, SIDE), 2)
        network = build()
        with Ledger() as ledger, torch.no_grad():
            network(batch.images[:1])
        counts = [(stage.share, _counted(built, batch, Clock(*LATE, stage.name))) for stage in built.stages()]
    one = ledger.flops
    trained, free, backward = (sum(share * count[part] for share, count in counts) / one for part in range(3))
    return Passes(trained, free, backward)


def _counted(method: Method, batch: Any, clock: Clock) -> tuple[int, int, int]:
    """Operations with and without gradient, and those of the gradients."""
    meter = _Meter()
    losses = method.step(batch, clock)
    while True:
        with meter.forward():
            loss = next(losses, None)
        if loss is None:
            return meter.trained, meter.free, meter.backward
        with Ledger() as ledger:
            loss.total.backward()  # type: ignore[no-untyped-call]
        meter.backward += ledger.flops


class _Meter(Ledger):  # type: ignore[no-untyped-call]
    """Ledger that tells operations with gradient from those without."""

    def __init__(self) -> None:
        super().__init__()
        self.trained = self.free = self.backward = 0

    def _note(self, packet: Any, flops: int, moved: int, args: Any) -> None:
        if "backward" in packet.__name__:  # a method that asks for gradients within its step
            self.backward += flops
        elif torch.is_grad_enabled():
            self.trained += flops
        else:
            self.free += flops

    @contextmanager
    def forward(self) -> Iterator[None]:
        """What runs inside is counted."""
        with self:
            yield
