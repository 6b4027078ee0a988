"""How many windows are predicted at once, as far as memory goes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from semiseg.errors import InputError
from semiseg.runs.device import free_cache
from semiseg.system.memory import is_out_of_memory

_log = logging.getLogger(__name__)

T = TypeVar("T")


def with_room(make: Callable[[torch.device], Tensor], device: torch.device) -> Tensor:
    """What `make` puts on a device: on `device`, or in the host's memory where that one's ran out."""
    try:
        return make(device)
    except (RuntimeError, MemoryError) as error:
        if device.type == "cpu" or not is_out_of_memory(error):
            raise
    free_cache(device)  # only here is nothing left of the failed call, whose tensors the exception held
    _log.warning("memory of the device (%s) ran out: a part of the scan is kept in the host's", device)
    return make(torch.device("cpu"))


def room_for(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor on `device`, or in the host's memory where that one's ran out."""
    return with_room(lambda where: torch.empty(tuple(shape), dtype=dtype, device=where), device)


@dataclass
class WindowBatch:
    """Windows at once: halved, and kept so, when memory runs out.

    Raises:
        InputError: less than one.
    """

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"expected at least one window per batch, came {self.size}")

    def over(self, call: Callable[[Sequence[T]], Tensor], items: Sequence[T]) -> Iterator[tuple[Sequence[T], Tensor]]:
        """Some of the items at a time, in order, and what `call` makes of them.

        Raises:
            InputError: memory ran out on a single one.
        """
        done = 0
        while done < len(items):
            chunk = items[done : done + self.size]
            out = self._tried(call, chunk)
            if out is not None:
                yield chunk, out
                done += len(chunk)

    def _tried(self, call: Callable[[Sequence[T]], Tensor], chunk: Sequence[T]) -> Tensor | None:
        """The answer of `call`; None when memory ran out, so that the next chunk is a smaller one."""
        try:
            return call(chunk)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(chunk) == 1:
                raise InputError(
                    f"memory ran out on a single window ({str(error).splitlines()[0]}): end what else uses this "
                    "device, or predict on the CPU with --accelerator cpu"
                ) from error
        # Only here is nothing left of the failed call, whose tensors the exception held.
        self.size = len(chunk) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _log.warning("memory ran out with %d windows at once: going on with %d", len(chunk), self.size)
        return None
