"""Ramps of loss weights and learning rates, as pure functions of numbers and of the clock."""

from __future__ import annotations

import math
from typing import Literal, Protocol

from pydantic import BaseModel, Field

RampUnit = Literal["run", "epochs", "units150", "none"]
RAMP_DOC = (
    "what the ramp-up of the unsupervised weight counts: `run`, shares of the whole training; `epochs`, with the lag "
    "of one epoch of xmed-lab/DHC; `units150`, whole blocks of 150 steps as in UA-MT and SSL4MIS; `none`, full weight "
    "at once"
)

UNIT = 150
"""Steps in a unit of `units150`."""


class Counts(Protocol):
    """What ingredients read of the clock."""

    @property
    def step(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def epochs(self) -> int: ...


def sigmoid_ramp(position: float, length: float) -> float:
    """exp(-5 (1 - position/length)^2), clipped to the ramp (Laine and Aila, 2017): exp(-5) at 0, 1 at `length`."""
    if length == 0:
        return 1.0
    return math.exp(-5.0 * (1.0 - min(max(position, 0.0), length) / length) ** 2)


def linear_ramp(position: float, length: float) -> float:
    """position/length up to 1; 1 where `length` is 0."""
    return min(position / length, 1.0) if length else 1.0


def cosine_rampdown(position: float, length: float) -> float:
    """Half a cosine from 1 at 0 to 0 at `length`."""
    return 0.5 * (math.cos(math.pi * position / length) + 1.0)


def polynomial_decay(position: float, length: float, power: float = 0.9) -> float:
    """(1 - position/length)^power, the factor of the learning rate known as "poly"."""
    return math.pow(1.0 - position / length, power)


def reversal_ramp(position: float, length: float, high: float, low: float = 0.0, slope: float = 1.0) -> float:
    """Strength of a gradient reversal: from `low` at 0 by a logistic curve towards `high` (arXiv:1409.7495)."""
    return 2 * (high - low) / (1 + math.exp(-slope * position / length)) - (high - low) + low


def lagged(count: int) -> int:
    """The count before, not below 0: official loops update a schedule at the end of an epoch or step."""
    return max(count - 1, 0)


def ramp_up(clock: Counts, unit: RampUnit, length: float | None = None) -> float:
    """Factor of the unsupervised weight at `clock`, a sigmoid ramp.

    Args:
        unit: `run`: share of all steps done, `length` a share (default 1). `epochs`: epochs with the lag of one,
            `length` in epochs (default: the last epoch's number, as official runs count epochs 0..E).
            `units150`: floor(step / 150), `length` in such units (default 200). `none`: always 1.
    """
    match unit:
        case "run":
            return sigmoid_ramp(clock.step / clock.steps, 1.0 if length is None else length)
        case "epochs":
            return sigmoid_ramp(lagged(clock.epoch), clock.epochs - 1 if length is None else length)
        case "units150":
            return sigmoid_ramp(clock.step // UNIT, 200.0 if length is None else length)
        case "none":
            return 1.0


class RampOptions(BaseModel):
    """How the weight of unsupervised terms rises; a method's options may include these."""

    ramp: RampUnit = Field("run", description=RAMP_DOC)
    ramp_length: float | None = Field(
        None,
        ge=0,
        description="length of the ramp-up in its unit; null: the whole training (`run`: 1, `epochs`: up to the last "
        "one), or 200 units of 150 steps",
    )

    def ramp_up(self, clock: Counts) -> float:
        """Factor of the weight at `clock`, 0 to 1."""
        return ramp_up(clock, self.ramp, self.ramp_length)
