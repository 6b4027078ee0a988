"""One process at a time in a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from semiseg.errors import InputError
from semiseg.system.files import refuse_links, sweep

_GLANCE = 0.2
"""Seconds to try: processes with shares of the work hold the whole for an instant, to see whether somebody has it."""
_POLL = 0.1


@contextmanager
def locked(folder: Path, *, wait: bool = False, part: str = "") -> Iterator[None]:
    """Hold `folder` for this process, and remove what killed processes left half-written in it.

    The operating system lets go of it when the process ends, however that happens: a lock is never stale. Where the
    file system has no locks, nobody is refused.

    Args:
        folder: made when it is not there.
        wait: until nobody else holds it, instead of refusing.
        part: name of a share of the work. Processes with other shares, which may run on other machines, can then hold
            the folder at the same time, but none can hold the whole; nothing is removed.

    Raises:
        InputError: another process holds it, whose number is told; or it cannot be written.
    """
    whole, own = folder / ".lock", folder / (f".lock_{part}" if part else ".lock")
    _prepare(folder, whole, own)
    while True:
        with ExitStack() as held:
            holder = _take(own, held) or (_glance(whole) if part else _any_part(folder))
            if holder is None:
                if not part:
                    sweep(folder)
                yield
                return
        if not wait:
            raise InputError(f"{folder}: {holder} is working in this folder: wait or stop it")
        time.sleep(_POLL)


def _prepare(folder: Path, *files: Path) -> None:
    for file in files:
        refuse_links(folder, file.name, remedy="remove the link")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            file.touch()
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}): choose another folder with --output"
        ) from error


def _take(file: Path, held: ExitStack, *, sign: bool = True) -> str | None:
    """Hold `file` until `held` ends; who has it, if that is somebody else."""
    lock = FileLock(file)
    try:
        held.enter_context(lock.acquire(timeout=_GLANCE))
    except Timeout:
        return _holder(file)
    except (OSError, NotImplementedError):  # some network file systems have no locks
        return None
    if sign:
        with suppress(OSError):  # Windows lets nobody write to it
            file.write_text(str(os.getpid()))
    return None


def _glance(file: Path) -> str | None:
    with ExitStack() as moment:
        return _take(file, moment, sign=False)


def _any_part(folder: Path) -> str | None:
    return next((holder for file in sorted(folder.glob(".lock_*")) if (holder := _glance(file))), None)


def _holder(file: Path) -> str:
    with suppress(OSError):
        if number := file.read_text().strip():
            return f"process {number}"
    return "another process"
