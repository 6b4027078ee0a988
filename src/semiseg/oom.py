"""Telling that memory ran out, whatever says so."""

from __future__ import annotations

import torch

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
