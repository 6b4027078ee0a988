"""Teachers: networks whose weights are the exponential moving average (EMA) of a student's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from semiseg.ingredients.horizon import HorizonOptions
from semiseg.ingredients.ramps import Counts
from semiseg.networks.base import Network, Tap

Statistics = Literal["batch", "copied", "averaged"]


class TeacherOptions(HorizonOptions):
    """How a teacher follows its student; a method's options may include these."""

    decay: float = Field(0.99, ge=0, lt=1, description="largest decay of the teacher, after its warm-up")


class StudentTeacherOptions(TeacherOptions):
    """The same for a single pair, of which one predicts."""

    predict_with: Literal["student", "teacher"] = Field("student", description="network used for prediction")


def ema_decay(step: int, decay: float) -> float:
    """Decay of the update after `step` (from 0): min(1 - 1/(step + 1), decay), so that the first update copies."""
    return min(1.0 - 1.0 / (step + 1), decay)


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """Moving average: teacher <- decay * teacher + (1 - decay) * student, parameters only."""
    _average(list(teacher.parameters()), list(student.parameters()), decay)


@torch.no_grad()
def ema_update_buffers(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """The same for buffers of floating point; others (counters) are copied. Decay 0 copies all."""
    pairs = list(zip(teacher.buffers(), student.buffers(), strict=True))
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    _average([t for t, _ in floats], [s for _, s in floats], decay)
    for t, s in pairs:
        if not t.is_floating_point():
            t.copy_(s)


def _average(teacher: list[Tensor], student: list[Tensor], decay: float) -> None:
    if teacher:
        torch._foreach_lerp_(teacher, student, 1.0 - decay)


class Teacher(nn.Module):
    """A network that follows a student and never has a gradient.

    Args:
        net: its network, started as the caller wishes (a deep copy of the student, or another draw).
        decay: largest decay of the moving average, see `ema_decay`.
        statistics: what normalises its activations during training: statistics of its own batch, with running
            buffers of its own; or running buffers copied or averaged from the student's.
        dropout: keep dropout on during training.
    """

    def __init__(self, net: Network, decay: float, statistics: Statistics = "batch", *, dropout: bool = False) -> None:
        super().__init__()
        self.net = net.requires_grad_(False)
        self.decay = decay
        self.statistics = statistics
        self.dropout = dropout

    @property
    def taps(self) -> dict[str, Tap]:
        """Features of its network."""
        return self.net.taps

    def train(self, mode: bool = True) -> Teacher:
        """Train mode only where batch statistics or dropout ask for it."""
        super().train(mode)
        if self.statistics != "batch":
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B, C, *S]`, without gradient."""
        return self.net(images, dropout=None if self.dropout else False)

    @torch.no_grad()
    def tapped(self, images: Tensor, taps: tuple[str, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits and the features called `taps` (at least one), without gradient."""
        return self.net(images, taps, dropout=None if self.dropout else False)

    def update(self, student: Network, step: int) -> None:
        """Follow `student` after its optimiser step number `step` (from 0)."""
        decay = ema_decay(step, self.decay)
        ema_update(self.net, student, decay)
        if self.statistics != "batch":
            ema_update_buffers(self.net, student, 0.0 if self.statistics == "copied" else decay)

    def copy(self, student: Network) -> None:
        """Become the student, running statistics included."""
        ema_update(self.net, student, 0.0)
        ema_update_buffers(self.net, student, 0.0)

    def follow(self, student: Network, clock: Counts) -> None:
        """`update` by the clock."""
        self.update(student, clock.step)

    def extra_state(self) -> dict[str, int]:
        """Nothing: all state is in parameters and buffers."""
        return {}

    def load_extra_state(self, state: dict[str, int]) -> None:
        """Nothing to take back."""


def make_teacher(net: Network, options: TeacherOptions, steps: int, *, dropout: bool = True) -> Teacher:
    """The teacher of these options whose network is `net`, in a run of so many `steps` (0: unknown)."""
    return Teacher(net, options.within(options.decay, steps), dropout=dropout)


@contextmanager
def frozen_statistics(net: nn.Module, freeze: bool = True) -> Iterator[None]:
    """Forward passes inside leave the running buffers of batch normalisation as they are (if `freeze`)."""
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)] if freeze else []
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def recomputed(net: nn.Module) -> Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
    """Contexts of what is computed again for its gradient: only the first pass moves running buffers of `net`."""
    return lambda: (nullcontext(), frozen_statistics(net))
