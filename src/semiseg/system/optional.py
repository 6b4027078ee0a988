"""Libraries that make something faster where they are installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def optional(name: str) -> Any:
    """The module `name`; None when it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return None
