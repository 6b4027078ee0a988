"""How far back moving averages reach: constants of long runs, and shares of short ones."""

from __future__ import annotations

from pydantic import BaseModel, Field


class HorizonOptions(BaseModel):
    """How long averages remember; options of methods that keep moving averages include these.

    An average with decay a reaches back over about 1 / (1 - a) updates. The papers' constants suit runs of many
    thousand steps: in one of 200, a decay of 0.99 makes a teacher that is half a run old.
    """

    horizon: float | None = Field(
        0.05,
        gt=0,
        le=1,
        description="longest reach of moving averages (teachers, thresholds, class weights) as a share of the run, "
        "which shortens those of short runs; null: as far as their decays and windows say, whatever the length",
    )

    def within(self, decay: float, updates: float) -> float:
        """`decay`, or less where an average of so many `updates` in all (0: unknown) would reach too far back."""
        return 1 - 1 / self.reach(1 / (1 - decay), updates) if decay < 1 else decay

    def reach(self, window: float, updates: float) -> float:
        """`window` in updates, or less in a short run; at least 1."""
        return window if self.horizon is None or not updates else max(min(window, self.horizon * updates), 1.0)
