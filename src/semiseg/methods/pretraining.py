"""A stage on labelled images alone before the unlabelled ones come in, as CML and BCP have it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from semiseg.methods.base import Clock, MethodConfig, Stage

PRETRAINING = "pretraining"


class PretrainingOptions(MethodConfig):
    """Length and end of the first stage; options of methods that have one include these."""

    # Bounds of the number alone: pydantic compares the word with those of the field.
    pretraining: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = Field(
        "auto",
        description="share of the steps with labelled images alone; `auto`: 0.12, but at least 2,000 steps, or half of "
        "the run if that is less",
    )
    hand_over: Literal["best", "last"] = Field(
        "best",
        description="where self-training starts: the best weights of the pre-training, if the run selects by "
        "validation, or the last ones",
    )

    def stages(self) -> tuple[Stage, Stage]:
        """Pre-training at the base rate, and self-training with a schedule of its own."""
        share, least = (0.12, 2000) if self.pretraining == "auto" else (self.pretraining, 0)
        return (
            Stage(PRETRAINING, share, schedule="constant", at_least=least),
            Stage("selftraining", 1 - share, schedule="stage", start=self.hand_over),
        )

    def selftraining(self, clock: Clock) -> Clock:
        """`clock` as the self-training counts: its own steps and epochs from 0, before it the first of them."""
        first, _ = self.stages()
        done = max(round(first.share * clock.steps), min(first.at_least, clock.steps // 2))
        step, steps = max(clock.step - done, 0), max(clock.steps - done, 1)
        epochs = clock.epochs / clock.steps  # per step
        return replace(clock, step=step, steps=steps, epoch=int(step * epochs), epochs=max(round(steps * epochs), 1))
