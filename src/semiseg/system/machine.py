"""What the machine has."""

from __future__ import annotations

import os


def memory() -> int:
    """Bytes of memory of this machine; where it cannot be told, 16 GiB."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 16 << 30
