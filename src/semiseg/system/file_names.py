"""Names that are safe on every system, wherever they came from."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

_LONGEST_NAME = 255  # bytes; file systems refuse to look for longer ones


def inside(name: str) -> bool:
    """Whether a path with this relative name stays in its folder, and can be there, on every system."""
    ways = (PurePosixPath(name), PureWindowsPath(name))
    sane = bool(name) and "\0" not in name and len(name.encode(errors="replace")) <= _LONGEST_NAME
    return sane and not any(way.anchor or ".." in way.parts for way in ways)


def is_file_name(name: str) -> bool:
    """Whether `name` can be part of the name of a file in any folder, and be printed."""
    return inside(name) and name.isprintable() and len(PureWindowsPath(name).parts) == 1
