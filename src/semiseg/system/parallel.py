"""Work on many scans in processes of their own."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from types import ModuleType
from typing import Any, Protocol, TypeVar

from semiseg.errors import InputError
from semiseg.system.memory import total_memory

_SAFE = "PYTHONSAFEPATH"

T = TypeVar("T")
R = TypeVar("R")


class Map(Protocol):
    """Applies a function to items and yields the results as they come, in any order."""

    def __call__(self, function: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]: ...


def serial(function: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]:
    """The `Map` of this process alone."""
    return map(function, items)


@contextmanager
def processes(count: int, *, apart: bool = False) -> Iterator[Map]:
    """A `Map` over `count` processes, started when first needed; with one, everything runs in this process, unless the
    work is to be `apart` from it.

    Processes are spawned: forking one that has threads can deadlock. The first exception ends the rest.

    Raises:
        InputError: a process died, most likely for lack of memory.
    """
    if count <= 1 and not apart:
        yield serial
        return
    with secluded():  # its semaphores need a process as well
        pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_start)

    def run(function: Callable[[Any], Any], items: Iterable[Any], /) -> Iterator[Any]:
        with secluded():
            waiting = [pool.submit(function, item) for item in items]
        for future in as_completed(waiting):
            yield future.result()

    try:
        yield run
    except BrokenProcessPool:
        raise InputError(
            f"one of {count} worker processes was ended from outside, most often because memory ran out: "
            "use fewer workers (1 works in this process)"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def secluded() -> Iterator[None]:
    """Around the start of a process: it sees neither the caller's script nor modules in the working directory.

    Spawned processes run the script again if they see it; ours need nothing from it, nor a guard in it. And they look
    for the standard library in the working directory first, which may be a dataset that somebody handed over.
    """
    script, safe = sys.modules["__main__"], os.environ.get(_SAFE)
    sys.modules["__main__"] = ModuleType("__main__")
    os.environ[_SAFE] = "1"
    try:
        yield
    finally:
        sys.modules["__main__"] = script
        os.environ.pop(_SAFE)
        if safe is not None:
            os.environ[_SAFE] = safe


def worker_count(wanted: int, tasks: int, bytes_per_task: int) -> int:
    """Processes to use: `wanted`, or as many as there are cores and half of the memory allows when that is 0."""
    if wanted > 0:
        return min(wanted, max(tasks, 1))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, tasks, total_memory() // 2 // max(bytes_per_task, 1)))


def _start() -> None:
    """Leave Ctrl-C to the parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, even when that was killed."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
