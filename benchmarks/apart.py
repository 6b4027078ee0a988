"""Calls in processes of their own, so that neither settings nor memory of one reach the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

Call = Callable[[], Any]


class Apart:
    """A call that lives in another process: `make(*args)`, importable, builds it there.

    The process waits without computing, so that several can take turns.
    """

    def __init__(self, make: Callable[..., Call], *args: Any) -> None:
        self._pipe, other = get_context("spawn").Pipe()
        self._process = get_context("spawn").Process(target=_serve, args=(other, make, args), daemon=True)
        self._process.start()

    def __call__(self, *, answer: bool = False) -> tuple[float, float, Any]:
        """Seconds on the wall, seconds that the process computed, and the answer if it is wanted."""
        self._pipe.send(answer)
        found: tuple[float, float, Any] = self._pipe.recv()
        return found

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


def in_turns(calls: Sequence[Apart], rounds: int) -> list[list[tuple[float, float]]]:
    """Wall and computing seconds of each call in each round; the order is turned round from round to round."""
    found: list[list[tuple[float, float]]] = [[] for _ in calls]
    for number in range(rounds):
        for index in range(len(calls))[:: -1 if number % 2 else 1]:
            wall, cpu, _ = calls[index]()
            found[index].append((wall, cpu))
    return found


def all_of(calls: Sequence[Apart], stack: ExitStack) -> list[Apart]:
    """The calls, which end with `stack`."""
    return [stack.enter_context(call) for call in calls]


def _serve(pipe: Connection, make: Callable[..., Call], args: Sequence[Any]) -> None:
    call = make(*args)
    while True:
        try:
            wanted = pipe.recv()
        except EOFError:
            return
        wall, cpu = time.perf_counter(), time.process_time()
        answer = call()
        took = time.perf_counter() - wall, time.process_time() - cpu
        pipe.send((*took, answer if wanted else None))
