"""Memory of the machine and of this process: how much there is, that it ran out, and what becomes of freed blocks."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from semiseg.errors import InputError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGEST = 1 << 30
_KEPT = 1 << 31
_MESSAGES = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "ALLOC_FAILED",
    "could not create a primitive",  # what convolutions on CPUs say when their buffers cannot be had
)


def total_memory() -> int:
    """Bytes of memory of this machine; where it cannot be told, 16 GiB."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 16 << 30


def reuse_freed_memory() -> bool:
    """Let this process use freed blocks of up to 1 GiB again instead of asking the kernel for new ones.

    By default every large block comes from the kernel and goes back to it, which clears its pages again and again: a
    fifth to a third of the time of a network on a CPU. At most 2 GiB that nothing uses are kept at the end of the heap.
    Results do not change. Returns whether this C library can do so (glibc can).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, _KEPT - 1))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that an allocation failed: by PyTorch, by CUDA's libraries, by Python or NumPy."""
    torch = sys.modules.get("torch")  # one of its errors cannot come before it; reading scans does not need it
    known = isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))
    return known or (isinstance(error, RuntimeError) and any(words in str(error) for words in _MESSAGES))


@contextmanager
def memory_told(where: str, remedy: str) -> Iterator[None]:
    """Say in one line that memory ran out inside, where that was and what to do.

    Raises:
        InputError: it did.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        words = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{where}: memory ran out ({words}): {remedy}") from error
