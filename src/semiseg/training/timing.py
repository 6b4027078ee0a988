"""Clocks: seconds of a call, and pairs of calls that share the machine's moods."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TypeVar

import torch

Call = Callable[[], object]
Clock = Callable[[], float]
T = TypeVar("T")

CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
"""`cpu` counts the time that the process computes: with one thread it hardly minds a machine that others use."""


def synchronise(device: torch.device) -> None:
    """Wait until everything that was given to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds(call: Call, device: torch.device, clock: Clock = time.perf_counter) -> float:
    """Seconds of one call, with all the work that it gives to the device."""
    synchronise(device)
    began = clock()
    call()
    synchronise(device)
    return clock() - began


def alternating(calls: Mapping[str, T], rounds: int, measure: Callable[[T], float]) -> dict[str, list[float]]:
    """What `measure` says of each call in each round, after one round that does not count.

    The order is turned round from round to round.
    """
    for call in calls.values():
        measure(call)
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in list(calls)[:: -1 if number % 2 else 1]:
            found[name].append(measure(calls[name]))
    return found


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """How many times as fast the second is: median over rounds of the ratio within the round."""
    return median(a / b for a, b in zip(slow, fast, strict=True))
