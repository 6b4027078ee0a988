"""Telling that memory ran out, whatever says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from semiseg.errors import InputError

_MESSAGES = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "ALLOC_FAILED",
    "could not create a primitive",  # what convolutions on CPUs say when their buffers cannot be had
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that an allocation failed: by PyTorch, by CUDA's libraries, by Python or NumPy."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or (isinstance(error, RuntimeError) and any(words in str(error) for words in _MESSAGES))


@contextmanager
def memory_told(where: str, remedy: str) -> Iterator[None]:
    """Say in one line that memory ran out inside, where that was and what to do.

    Raises:
        InputError: it did.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        words = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{where}: memory ran out ({words}): {remedy}") from error
