"""Reading, computing and writing at the same time, one item each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
A = TypeVar("A")


def overlapped(
    items: Sequence[T],
    read: Callable[[T], R],
    compute: Callable[[R], A],
    write: Callable[[T, A], None],
    *,
    ahead: Callable[[T], bool] = lambda item: True,
) -> Iterator[T]:
    """Every item in order, after it has been read, computed (in this thread) and written.

    While one is computed, the next is read and the one before is written, each in a thread: three are in memory at
    most. An exception of any of them is raised in the order of the items; what was computed before is written.

    Args:
        ahead: whether there is memory to read an item while another one is computed.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        reading: Future[R] | None = None
        writing: Future[None] | None = None
        for index, item in enumerate(items):
            found = reader.submit(read, item).result() if reading is None else reading.result()
            following = items[index + 1 : index + 2]
            reading = reader.submit(read, following[0]) if following and ahead(following[0]) else None
            answer = compute(found)
            del found
            if writing is not None:
                writing.result()
                yield items[index - 1]
            writing = writer.submit(write, item, answer)
            del answer
        if writing is not None:
            writing.result()
            yield items[-1]
