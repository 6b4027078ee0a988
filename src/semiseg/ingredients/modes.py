"""Modes of networks for single passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Passes inside are in evaluation mode: running statistics, no dropout."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)
