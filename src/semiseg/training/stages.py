"""Stages of a method in steps of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from semiseg.methods.base import Stage
from semiseg.settings.run import OptimiserConfig
from semiseg.training.optim import learning_rate


@dataclass(frozen=True)
class Span:
    """A stage that lasts from step `first` to before step `end`; `before` is the stage that precedes it, if any."""

    stage: Stage
    first: int
    end: int
    before: Stage | None = None

    def rate(self, config: OptimiserConfig, step: int, steps: int, steps_per_epoch: int = 1) -> float:
        """Learning rate of `step` of the run's `steps`."""
        match self.stage.schedule:
            case "run":
                return learning_rate(config, step, steps, steps_per_epoch)
            case "stage":
                return learning_rate(config, step - self.first, self.end - self.first, steps_per_epoch)
            case "constant":
                return learning_rate(config.model_copy(update={"schedule": "constant"}), step, steps)


def spans(stages: Sequence[Stage], steps: int) -> tuple[Span, ...]:
    """The stages that have steps, in order; together they cover all `steps`."""
    found: list[Span] = []
    reached, first = 0.0, 0
    for stage in stages:
        reached += stage.share
        end = min(max(round(reached * steps), first + min(stage.at_least, steps // 2)), steps)
        if end > first:
            found.append(Span(stage, first, end, found[-1].stage if found else None))
            first = end
    if first < steps:
        raise ValueError(f"the stages {[stage.name for stage in stages]} end at step {first} of {steps}")
    return tuple(found)
