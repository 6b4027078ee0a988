"""Small disks, full ones and such that cannot be written, where the system lets a test mount them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system in memory at `folder`, with `options` such as `size=1m` or `ro`; skips where none can be had."""
    folder.mkdir(parents=True, exist_ok=True)
    if not _called("mount", "-t", "tmpfs", "-o", options, "tmpfs", folder):
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        assert _called("umount", "--lazy", folder)


def resize(folder: Path, options: str) -> None:
    """Change the options of a disk."""
    assert _called("mount", "-o", f"remount,{options}", folder)


def _called(*words: object) -> bool:
    try:
        return subprocess.run([*map(str, words)], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
