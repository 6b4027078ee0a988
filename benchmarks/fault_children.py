"""Command lines in forked children that are killed at a chosen moment (Linux).

The parent has imported everything and has no threads, so that a child begins to work at once. A child is the leader of
a process group of its own. It counts *moments*: every time that it is about to open a file for writing, flush one to
the disk, rename or remove one. Counter and orders lie in memory that its own children share.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Kill:
    """When a child dies.

    Attributes:
        seconds: after its start; None when a moment counts.
        moment: number of the moment before which it kills itself; 0 when seconds count.
        torn: share of the content that a file keeps which was about to be renamed: what a kill in the middle of writing
            leaves. 1 keeps it whole.
        orphans: only the leader dies (by seconds), its own children have to find out.
    """

    seconds: float | None = None
    moment: int = 0
    torn: float = 1.0
    orphans: bool = False


@dataclass(frozen=True)
class End:
    """How a child ended: exit status (-9 when it was killed), seconds, moments that it counted, what it said."""

    status: int
    seconds: float
    moments: int
    said: str


def run(words: list[str], root: Path, kill: Kill = Kill(), renamed: Callable[[Path, Path], None] | None = None) -> End:
    """Run `semiseg WORDS` in a child; `renamed(source, target)` is called in it before a file below `root` is renamed.

    Files outside of `root` do not count as moments.
    """
    shared = mmap.mmap(-1, 8)
    said = root.with_suffix(".said")
    began = time.monotonic()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setsid()
        _work(words, said, _Moments(root, kill, shared, renamed))
    if kill.seconds is not None:
        _wait(child, began + kill.seconds)
        _end(child, orphans=kill.orphans)
    _, status = os.waitpid(child, 0)
    if not kill.orphans:
        _end(child, orphans=False)  # children of a leader that killed itself
    code = os.waitstatus_to_exitcode(status)
    return End(code, time.monotonic() - began, _count(shared), said.read_text(errors="replace"))


def _wait(child: int, until: float) -> None:
    while time.monotonic() < until and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.001)


def _end(child: int, *, orphans: bool) -> None:
    with suppress(ProcessLookupError):
        (os.kill if orphans else os.killpg)(child, signal.SIGKILL)


def _count(shared: mmap.mmap) -> int:
    return int(struct.unpack("q", shared[:8])[0])


def _work(words: list[str], said: Path, moments: _Moments) -> None:
    from semiseg.cli import main
    from semiseg.comparison import launch

    status = 1
    try:
        with said.open("w") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        fork = multiprocessing.get_context("fork")
        fork.set_forkserver_preload = lambda names: None  # type: ignore[attr-defined]
        launch.get_context = lambda name: fork  # type: ignore[attr-defined]  # a fork server would import for seconds
        sys.argv = ["semiseg", *words]
        moments.watch()
        main()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class _Moments:
    """Counts moments and carries out the order to die at one."""

    def __init__(self, root: Path, kill: Kill, shared: mmap.mmap, renamed: Callable[[Path, Path], None] | None) -> None:
        self._root, self._kill, self._shared, self._renamed = str(root), kill, shared, renamed
        self._busy = False

    def watch(self) -> None:
        """Count from now on."""
        flush = os.fsync

        def fsync(descriptor: int) -> None:
            self._pass(os.readlink(f"/proc/self/fd/{descriptor}"))
            flush(descriptor)

        os.fsync = fsync
        sys.addaudithook(self._hook)

    def _hook(self, event: str, values: tuple[Any, ...]) -> None:
        if self._busy:
            return
        if (event == "open" and values[2] & WRITING) or event in ("os.remove", "os.truncate", "os.mkdir"):
            self._pass(values[0])
        elif event == "os.rename":
            self._pass(values[1], values[0])

    def _pass(self, path: object, source: object = None) -> None:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(self._root):
            return
        self._busy = True
        if source is not None and self._renamed is not None:
            self._renamed(Path(str(source)), Path(os.fspath(path)))
        number = _count(self._shared) + 1
        self._shared[:8] = struct.pack("q", number)
        if number == self._kill.moment:
            if source is not None and self._kill.torn < 1:
                os.truncate(str(source), int(os.path.getsize(str(source)) * self._kill.torn))
            os.killpg(0, signal.SIGKILL)
        self._busy = False
