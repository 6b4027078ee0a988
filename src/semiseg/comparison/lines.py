"""Statistics of a comparison: one line per method, budget, class and metric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from semiseg.comparison.cells import Role
from semiseg.comparison.gather import Outcome
from semiseg.evaluation.statistics import Comparison, adjust, compare_paired, mean_interval, over_runs, spread
from semiseg.evaluation.tables import COLUMNS

MEAN = "mean"
"""Stands for the mean over the foreground classes."""


@dataclass(frozen=True, eq=False)
class Group:
    """All cells of a method at a budget, over subsets and seeds."""

    preset: str
    budget: str
    label: str
    role: Role
    bound: str
    outcomes: tuple[Outcome, ...]

    @property
    def done(self) -> tuple[Outcome, ...]:
        """Those that have scores."""
        return tuple(outcome for outcome in self.outcomes if outcome.state == "finished")

    @property
    def failures(self) -> tuple[str, ...]:
        """`seed 1: message` of each cell that failed."""
        failed = (outcome for outcome in self.outcomes if outcome.state == "failed")
        return tuple(f"{outcome.cell.name}: {outcome.record.message}" for outcome in failed)

    @property
    def labels(self) -> str:
        """Label budget: `8`, `8 + 2` with those for selection; a range where draws differ."""
        found = sorted({outcome.budget for outcome in self.done})
        return ", ".join(f"{training} + {chosen}" if chosen else f"{training}" for training, chosen in found)

    @property
    def protocol(self) -> str:
        """Protocol with its stamps."""
        return ", ".join(dict.fromkeys(outcome.protocol for outcome in self.done))

    def known(self, name: str) -> float:
        """Median over the cells of a number of their records; NaN where none has it."""
        values = [value for outcome in self.done if (value := getattr(outcome.record, name)) is not None]
        return float(median(values)) if values else math.nan


@dataclass(frozen=True, eq=False)
class Line:
    """Statistics of one class and metric of a group, in the units of `scores.csv`.

    Attributes:
        mean, spread: over subsets and seeds, of the means over cases.
        low, high: 95 % interval of the mean over cases.
        against: paired with the control over the same subsets and seeds; None for the control and the bound.
        p_holm: corrected for the methods of the same budget.
    """

    group: Group
    name: str
    metric: str
    mean: float
    spread: float
    low: float
    high: float
    cases: int
    against: Comparison | None = None
    p_holm: float = math.nan


def groups_of(outcomes: Iterable[Outcome]) -> list[Group]:
    """The outcomes by preset, budget and method, bounds after what they belong to."""
    found: dict[tuple[str, str, str], list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.cell.role == "bound"):
        cell = outcome.cell
        found.setdefault((cell.preset, cell.budget, cell.label), []).append(outcome)
    return [
        Group(*key, members[0].cell.role, members[0].cell.bound, tuple(sorted(members, key=lambda o: o.cell.repeat)))
        for key, members in found.items()
    ]


def lines_of(groups: Sequence[Group]) -> list[Line]:
    """Every line, with tests against the control of the same preset and budget."""
    lines = [
        _line(group, _control(group, groups), name, metric)
        for group in groups
        if group.done
        for name in (*group.done[0].classes, MEAN)
        for metric, _, _ in COLUMNS
    ]
    return list(_corrected(lines))


def _control(group: Group, groups: Sequence[Group]) -> Group | None:
    """The control of a method that can be tested against it."""
    same = (other for other in groups if (other.preset, other.budget) == (group.preset, group.budget))
    return next((other for other in same if other.role == "control"), None) if group.role == "method" else None


def _line(group: Group, control: Group | None, name: str, metric: str) -> Line:
    of_class = None if name == MEAN else name
    over = spread([outcome.mean(metric, of_class) for outcome in group.done])
    cases = over_runs([outcome.by_case(metric, of_class) for outcome in group.done])
    interval = mean_interval(np.array(list(cases.values())))
    against = None if control is None else _paired(group, control, metric, of_class)
    known = sum(not math.isnan(value) for value in cases.values())
    return Line(group, name, metric, over.mean, over.std, interval.low, interval.high, known, against)


def _paired(group: Group, control: Group, metric: str, name: str | None) -> Comparison | None:
    """Both over the subsets and seeds that both have."""
    ours = {outcome.cell.repeat: outcome for outcome in group.done}
    theirs = {outcome.cell.repeat: outcome for outcome in control.done}
    shared = [repeat for repeat in ours if repeat in theirs]
    sides = [over_runs([side[repeat].by_case(metric, name) for repeat in shared]) for side in (ours, theirs)]
    return compare_paired(*sides) if shared else None


def _corrected(lines: Sequence[Line]) -> Iterator[Line]:
    """Holm's correction over the methods that stand in one column of a table."""
    families: dict[tuple[str, str, str, str], dict[str, float]] = {}
    for line in lines:
        if line.against is not None:
            families.setdefault(_family(line), {})[line.group.label] = line.against.p
    adjusted = {family: adjust(values) for family, values in families.items()}
    for line in lines:
        yield line if line.against is None else replace(line, p_holm=adjusted[_family(line)][line.group.label])


def _family(line: Line) -> tuple[str, str, str, str]:
    return line.group.preset, line.group.budget, line.name, line.metric
