"""What a training step takes in memory, counted on tensors that have shapes and no data.

A forward and a backward pass run on such tensors, and every storage counts from its creation until it is freed. That
sum is exact; what a process holds is more, because the C library keeps freed blocks for later.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from semiseg.runs.precision import autocast, memory_format, set_memory_format

KEPT = 1.3
"""What a process on a CPU holds, over what its tensors take; `benchmarks/plan_memory.py` measures 1.2 to 1.5."""

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Footprint:
    """Bytes that a training step of one network needs at its peak.

    Attributes:
        parameters: of the network.
        activations: everything else of forward and backward: features, their gradients, those of the parameters.
    """

    parameters: int
    activations: int

    def total(self, trained: float = 1.0, copies: float = 0.0) -> int:
        """Bytes with AdamW's two moments and what the allocator keeps.

        Args:
            trained: networks of this size that see all patches with gradient.
            copies: networks of this size that are averages of others, or are used without gradient.
        """
        state = self.parameters * (3 * trained + copies)
        return round(KEPT * (state + trained * self.activations))


def footprint(build: Callable[[], nn.Module], images: Sequence[int], precision: str) -> Footprint:
    """Memory of one step of the network that `build` makes, without touching any.

    Args:
        build: makes the network.
        images: `[B, channels, *S]`.
        precision: `fp32`, `tf32` or `bf16`.
    """
    # Channels last, some processors' bf16 kernels copy and others do not; the count shall be that of the network alone.
    layout = torch.contiguous_format if precision == "bf16" else memory_format(_CPU, len(images) - 2)
    with FakeTensorMode(), LiveBytes() as live:
        network = build().train()
        set_memory_format(network, layout)
        parameters = live.now
        batch = torch.empty(*images).to(memory_format=layout)
        target = torch.empty(images[0], *images[2:], dtype=torch.long)
        with autocast(_CPU, precision):
            logits: Tensor = network(batch)
        functional.cross_entropy(logits.float(), target).backward()  # type: ignore[no-untyped-call]
    return Footprint(parameters, live.peak - parameters)


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that exist, and the most that ever did."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        self.peak = max(self.peak, self.now)
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += storage.nbytes()
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.now -= self._sizes.pop(key)
