"""One process at a time in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from semiseg.errors import InputError
from semiseg.system.files import refuse_links, sweep


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
    with _opened(folder, ".lock") as whole:
        _take(whole, folder, wait, shared=bool(part))
        _sign(whole)
        if not part:
            sweep(folder)
            yield
            return
        with _opened(folder, f".lock_{part}") as share:
            _take(share, folder, wait)
            _sign(share)
            yield


def _opened(folder: Path, name: str) -> IO[str]:
    refuse_links(folder, name, remedy="remove the link")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / name).open("a+")
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}): choose another folder with --output"
        ) from error


def _sign(file: IO[str]) -> None:
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()


def _take(file: IO[str], folder: Path, wait: bool, *, shared: bool = False) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        file.seek(0)
        raise InputError(
            f"{folder}: process {file.read().strip()} is working in this folder: wait or stop it"
        ) from None
    except OSError:  # some network file systems have none
        return
