"""Voxelwise parts of losses that can be compiled into few passes over memory, where the engine found that faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

_ACTIVE: ContextVar[bool] = ContextVar("fused", default=False)


@contextmanager
def fused(active: bool = True) -> Iterator[None]:
    """Inside, `fusable` functions are compiled if `active`; like autocast it holds for the thread that enters it."""
    token = _ACTIVE.set(active)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def is_fused() -> bool:
    """Whether `fusable` functions are compiled now. Backward passes may run in another thread, which has to be told."""
    return _ACTIVE.get()


def fusable(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, pure and of tensors, compiled at its first call inside of `fused`; equal but for rounding."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return (_compiled(function) if is_fused() else function)(*args, **kwargs)

    return call


@cache
def _compiled(function: Callable[P, R]) -> Callable[P, R]:
    return torch.compile(function)
