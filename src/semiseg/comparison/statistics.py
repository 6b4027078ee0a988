"""Statistics of a comparison: one line per method, budget, class and metric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

import numpy as np

from semiseg.comparison.cells import Role
from semiseg.comparison.outcomes import Outcome
from semiseg.metrics.base import columns, shown_columns
from semiseg.metrics.statistics import (
    Comparison,
    PairedTest,
    adjust,
    compare_paired,
    mean_interval,
    over_patients,
    over_runs,
    spread,
)

MEAN = "mean"
"""Stands for the mean over the foreground classes."""

Side = Literal["plain", "kin"]
"""Which control: the plain one, or that of the method's kind."""


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

    @property
    def training(self) -> tuple[tuple[int, int], ...]:
        """Optimiser updates and labelled patches of each, as often as trainings differ in them."""
        return tuple(sorted({(outcome.updates, outcome.labelled_patches) for outcome in self.done if outcome.updates}))

    def control(self, side: Side) -> str:
        """Name of the control that the method is tested against; "" where its cells name none."""
        cell = self.outcomes[0].cell
        return cell.control if side == "plain" else cell.kin

    def known(self, name: str) -> float:
        """Median over the cells of a number of their records; NaN where none has it."""
        values = [value for outcome in self.done if (value := getattr(outcome.record, name)) is not None]
        return float(median(values)) if values else math.nan


@dataclass(frozen=True, eq=False)
class Line:
    """Statistics of one class and metric of a group, in the units of `scores.csv`.

    Attributes:
        mean, spread: over subsets and seeds, of the means over cases.
        low, high: 95 % interval of the mean over patients.
        cases, patients: numbers of those that have a score.
        against: paired with the plain control over the same subsets and seeds; None for controls and bounds.
        p_holm: corrected for all tests of the same budget.
        against_kin, p_holm_kin: the same against the control of the method's kind, where that is another one.
    """

    group: Group
    name: str
    metric: str
    mean: float
    spread: float
    low: float
    high: float
    cases: int
    patients: int
    against: Comparison | None = None
    p_holm: float = math.nan
    against_kin: Comparison | None = None
    p_holm_kin: float = math.nan


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


def lines_of(groups: Sequence[Group], test: PairedTest = "wilcoxon") -> list[Line]:
    """Every line, with tests against the controls of the same preset and budget.

    Patients are those that any of the runs tells of: all were scored on the same cases.
    """
    statistics = _Statistics(patients_of(groups), test)
    lines = [
        _line(group, groups, name, metric, statistics)
        for group in groups
        if group.done
        for name in (*group.done[0].classes, MEAN)
        for metric in (column.name for column in shown_columns())
    ]
    return list(_corrected(lines))


def patients_of(groups: Iterable[Group]) -> dict[str, str]:
    """Patient by scored case; empty where no run tells whose scans it was scored on."""
    return {case: name for group in groups for outcome in group.done for case, name in outcome.patients.items()}


@dataclass(frozen=True)
class _Statistics:
    """How numbers are made of scores."""

    patients: Mapping[str, str]
    test: PairedTest


def _control(group: Group, groups: Sequence[Group], side: Side) -> Group | None:
    """A control of a method, where it has one that it can be tested against."""
    if group.role != "method":
        return None
    place, name = (group.preset, group.budget), group.control(side)
    controls = [other for other in groups if (other.preset, other.budget) == place and other.role == "control"]
    if side == "plain" and not name:
        return next(iter(controls), None)
    return next((other for other in controls if other.label == name), None)


def _line(group: Group, groups: Sequence[Group], name: str, metric: str, statistics: _Statistics) -> Line:
    of_class = None if name == MEAN else name
    over = spread([outcome.mean(metric, of_class) for outcome in group.done])
    cases = over_runs([outcome.by_case(metric, of_class) for outcome in group.done])
    patients = over_patients(cases, statistics.patients)
    interval = mean_interval(np.array(list(patients.values())))
    scans, persons = (sum(not math.isnan(value) for value in values.values()) for values in (cases, patients))
    line = Line(group, name, metric, over.mean, over.std, interval.low, interval.high, scans, persons)
    plain, kin = (_control(group, groups, side) for side in ("plain", "kin"))
    return replace(
        line,
        against=None if plain is None else _paired(line, plain, statistics),
        against_kin=None if kin is None else _paired(line, kin, statistics),
    )


def _paired(line: Line, control: Group, statistics: _Statistics) -> Comparison | None:
    """Both over the subsets and seeds that both have."""
    name = None if line.name == MEAN else line.name
    ours = {outcome.cell.repeat: outcome for outcome in line.group.done}
    theirs = {outcome.cell.repeat: outcome for outcome in control.done}
    shared = [repeat for repeat in ours if repeat in theirs]
    if not shared:
        return None
    method, other = (
        over_runs([side[repeat].by_case(line.metric, name) for repeat in shared]) for side in (ours, theirs)
    )
    higher = columns()[line.metric].metric.higher_is_better
    return compare_paired(method, other, statistics.test, patients=statistics.patients, higher_is_better=higher)


def _corrected(lines: Sequence[Line]) -> Iterator[Line]:
    """Holm's correction over the tests that stand in one column of a table."""
    families: dict[tuple[str, str, str, str], dict[str, float]] = {}
    for line in lines:
        for side, found in (("plain", line.against), ("kin", line.against_kin)):
            if found is not None:
                families.setdefault(_family(line), {})[f"{side} {line.group.label}"] = found.p
    adjusted = {family: adjust(values) for family, values in families.items()}
    for line in lines:
        known = adjusted.get(_family(line), {})
        label = line.group.label
        plain, kin = (known.get(f"{side} {label}", math.nan) for side in ("plain", "kin"))
        yield replace(line, p_holm=plain, p_holm_kin=kin) if line.group.role == "method" else line


def _family(line: Line) -> tuple[str, str, str, str]:
    return line.group.preset, line.group.budget, line.name, line.metric
