"""How the C library keeps memory that is freed, on Linux."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGEST = 1 << 30
_KEPT = 1 << 31


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
