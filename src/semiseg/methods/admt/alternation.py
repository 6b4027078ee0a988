"""Periods of random length in which one teacher or the other is updated."""

from __future__ import annotations

import random
from bisect import bisect_right

from semiseg.ingredients.ema import ema_decay


class Alternation:
    """Which of two teachers is active, as a function of the step and a seed alone.

    Periods are uniform in 1 ... `longest` steps; the first teacher begins. Random numbers of a step differ between
    processes, those of a seed do not.

    Args:
        longest: steps of the longest period.
        seed: of the lengths.
    """

    def __init__(self, longest: int, seed: int) -> None:
        self.longest, self.seed = longest, seed
        # Whose turn it is, no secret.
        self._random = random.Random(seed)  # nosec B311
        self._ends: list[int] = []

    def active(self, step: int) -> int:
        """The teacher of `step` (from 0): 0 or 1."""
        while not self._ends or self._ends[-1] <= step:
            self._ends.append((self._ends[-1] if self._ends else 0) + self._draw())
        return bisect_right(self._ends, step) % 2

    def _draw(self) -> int:
        return self._random.randint(1, self.longest)


def teacher_decay(step: int, warm_up: float, largest: float) -> float:
    """Decay of the active teacher's update after `step` (from 0): 0 while step // 2 < `warm_up`, then `ema_decay`.

    Half of the steps are each teacher's, on average; so their number is counted.
    """
    updates = step // 2 - warm_up
    return 0.0 if updates < 0 else ema_decay(int(updates), largest)
