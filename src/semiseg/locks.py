"""One process at a time in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from semiseg.errors import InputError
from semiseg.files import sweep


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold `folder` for this process, and remove what killed processes left half-written in it.

    The operating system lets go of it when the process ends, however that happens: a lock is never stale. Where the
    file system has no locks, nobody is refused.

    Args:
        folder: made when it is not there.
        wait: until nobody else holds it, instead of refusing.

    Raises:
        InputError: another process holds it, whose number is told; or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a+")
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}): choose another folder with --output"
        ) from error
    with file:
        _take(file, folder, wait)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        sweep(folder)
        yield


def _take(file: IO[str], folder: Path, wait: bool) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        file.seek(0)
        raise InputError(
            f"{folder}: process {file.read().strip()} is working in this folder: wait or stop it"
        ) from None
    except OSError:  # some network file systems have none
        return
