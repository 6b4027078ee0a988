"""The floor of a training step: what its convolutions and normalisations cost at the machine's measured peaks.

Each of them takes at least the longer of two times: that of its multiplications at the peak of its number format, and
that of touching each operand once at the peak bandwidth. Everything else (activations, sums, losses, optimiser) is
taken to be fused into them, that is, to be free.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from semiseg.training.timing import Clock, seconds

_PASSES = {
    "native_batch_norm": 3,
    "cudnn_batch_norm": 3,
    "native_batch_norm_backward": 5,
    "cudnn_batch_norm_backward": 5,
    "native_group_norm": 3,
    "native_group_norm_backward": 5,
}
"""Times that a normalisation reads or writes its features: statistics, then the result, and likewise backwards."""


@dataclass(frozen=True)
class Work:
    """An operation: floating-point operations (two per multiplication and addition), bytes, number format."""

    name: str
    flops: int
    bytes: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Machine:
    """Measured peaks: operations per second by number format, and bytes per second read and written."""

    flops: Mapping[torch.dtype, float]
    bandwidth: float

    def seconds(self, work: Work) -> float:
        """Least time of `work`."""
        peak = self.flops.get(work.dtype, min(self.flops.values()))
        return max(work.flops / peak, work.bytes / self.bandwidth)

    def floor(self, works: Sequence[Work]) -> float:
        """Least time of all."""
        return sum(self.seconds(work) for work in works)


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context that notes the convolutions, matrix products and normalisations that run inside, forwards and backwards.

    Attributes:
        works: what was noted, in order.
        launches: operations of any kind, each of which a GPU is told of by itself.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.works: list[Work] = []
        self.launches = 0

    @property
    def flops(self) -> int:
        """Floating-point operations of all that was noted."""
        return sum(work.flops for work in self.works)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.launches += not func.is_view
        packet = func.overloadpacket
        if packet in flop_registry:
            grouped = packet.__name__ == "convolution_backward" and args[9] > 1
            count = _grouped_backward if grouped else flop_registry[packet]
            self._note(packet, count(*args, **(kwargs or {}), out_val=out), _bytes((args, out)), args)
        elif packet.__name__ in _PASSES:
            largest = max(tree.nbytes for tree in _tensors(args))
            self._note(packet, 0, _PASSES[packet.__name__] * largest, args)
        return out

    def _note(self, packet: Any, flops: int, moved: int, args: Sequence[Any]) -> None:
        self.works.append(Work(packet.__name__, flops, moved, _tensors(args)[0].dtype))


def _grouped_backward(gradient: Tensor, features: Tensor, weight: Tensor, *rest: Any, out_val: Any) -> int:
    """Operations of the gradients of a convolution in groups, whose weights torch counts as if it had none."""
    outer = features if rest[4] else gradient  # transposed or not
    return int(2 * outer.numel() * (weight.numel() // weight.shape[0]) * sum(rest[7][:2]))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _bytes(tree: Any) -> int:
    return sum(tensor.nbytes for tensor in _tensors(tree))


def measure_machine(device: torch.device, *, quick: bool = False, clock: Clock = time.perf_counter) -> Machine:
    """Peaks of `device` by a large convolution, a large matrix product and a large copy; the fastest of a few runs."""
    # Long enough to reach the peak, short enough to wait for: a GPU is a thousand times as fast as a core.
    scale = 1 if device.type == "cpu" else 4
    repeats = 3 if quick else 6
    flops = {
        dtype: max(_peak(call, work, device, repeats, clock) for call, work in _probes(device, dtype, scale))
        for dtype in (torch.float32, torch.bfloat16)
    }
    source = torch.zeros(2**24 * scale, device=device)
    target = torch.empty_like(source)
    bandwidth = _peak(partial(target.copy_, source), 2 * source.nbytes, device, 2 * repeats, clock)
    return Machine(flops, bandwidth)


def _probes(device: torch.device, dtype: torch.dtype, scale: int) -> list[tuple[Callable[[], Any], int]]:
    side, edge, width = 1024 * scale, 16 * scale, 64
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    layout = torch.channels_last_3d if device.type == "cpu" else torch.contiguous_format
    x = torch.randn(2, width, edge, edge, edge, device=device).to(dtype).contiguous(memory_format=layout)
    w = torch.randn(width, width, 3, 3, 3, device=device).to(dtype).contiguous(memory_format=layout)
    return [
        (partial(torch.matmul, a, b), 2 * side**3),
        (partial(F.conv3d, x, w, padding=1), 2 * 27 * width * x.numel()),
    ]


@torch.no_grad()
def _peak(call: Callable[[], Any], work: int, device: torch.device, repeats: int, clock: Clock) -> float:
    # In a row on a GPU, where telling of a call and waiting for it take as long as some calls.
    row = 1 if device.type == "cpu" else 20

    def calls() -> None:
        for _ in range(row):
            call()

    calls()
    return row * work / min(seconds(calls, device, clock) for _ in range(repeats))
