"""Paths as arguments."""

from __future__ import annotations

from pathlib import Path

PathLike = str | Path


def as_path(value: PathLike | None) -> Path | None:
    """`value` as a path, if there is one."""
    return None if value is None else Path(value)
