"""The parts of a report that answer: how good are the predictions, and where does each number come from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from semiseg.evaluation.scores import Scores
from semiseg.metrics.base import Column, columns, shown_columns
from semiseg.metrics.empty import EMPTY_RULES
from semiseg.metrics.statistics import Interval, mean_interval
from semiseg.reports.charts import Box, Chart, box_plot, style_of
from semiseg.reports.cohort import Cohort
from semiseg.reports.page import Table
from semiseg.reports.records import Record
from semiseg.reports.words import number, percent

OVERVIEW = ("dice", "hd95_mm")
"""Columns that are shown of a run as a whole, and drawn."""


@dataclass(frozen=True)
class Outcome:
    """The result of a run: labels that it was given, mean Dice over patients with its interval once it is scored."""

    record: Record
    training: int
    selection: int
    dice: Interval | None

    @property
    def scans(self) -> int:
        """Scored scans."""
        return len(self.record.scores.cases) if self.record.scores else 0

    @property
    def patients(self) -> int:
        """Patients whose scans these are; 0 where it is not known."""
        return len(set(self.record.scores.patients.values())) if self.record.scores else 0


@dataclass(frozen=True)
class ClassScores:
    """Scores per class of a cohort."""

    cohort: Cohort
    table: Table
    note: str
    charts: tuple[Chart, ...]


def outcome(record: Record) -> Outcome:
    """The result of a run."""
    budget = record.facts.get("label_budget", {})
    dice = mean_interval(record.scores.by_patient("dice")) if record.scores else None
    return Outcome(record, budget.get("training", len(record.split.labelled)), budget.get("selection", 0), dice)


def overview(outcomes: Sequence[Outcome]) -> Table:
    """A line per run: name, labels and scans that it was given, scores that it reached."""
    given = ("run", "method", "labels: training + selection", "unlabelled scans used", "steps")
    reached = (*(columns()[name].heading for name in OVERVIEW), "scans scored", "protocol")
    return Table("Runs", (*given, *reached), [_line(found) for found in outcomes])


def _line(found: Outcome) -> list[object]:
    record, scores = found.record, found.record.scores
    labels, steps = f"{found.training} + {found.selection}", f"{record.steps} of {record.config.steps}"
    given = [record, record.config.method, labels, record.unlabelled, steps]
    protocol = str(record.facts.get("protocol", record.config.protocol))
    if scores is None:
        return [*given, "not scored", "", "", protocol]
    dice, distance = (scores.mean(name) for name in OVERVIEW)
    return [*given, percent(dice), number(distance), found.scans, protocol]


def classes(cohort: Cohort) -> ClassScores:
    """Table and box plots per class."""
    names, scores = cohort.class_names, cohort.scores
    first, *others = (column.heading for column in report_columns())
    heads = ("class", "run", first, "95 % interval", *others, "scans", "patients")
    rows = [
        [names[label], record.key, *_class_cells(found, label)]
        for label in range(1, len(names))
        for record, found in zip(cohort.records, scores, strict=True)
    ]
    rule = scores[0].empty
    note = (
        f"Mean ± standard deviation over scans. {_meanings()} Empty masks, rule {rule!r}: {EMPTY_RULES[rule]}. The "
        "interval is that of the mean Dice over patients, whose scans are averaged first (Student's t, corrected for "
        f"skewness).{_unknown(cohort)}"
    )
    charts = (_boxes(cohort, columns()[name]) for name in OVERVIEW)
    return ClassScores(cohort, Table("Means over scans", heads, rows), note, tuple(filter(None, charts)))


def report_columns() -> list[Column]:
    """The columns of the report's tables, Dice first; distances in mm."""
    return shown_columns("mm")


def _meanings() -> str:
    metrics = [column.metric for column in report_columns()]
    return " ".join(f"{metric.label}: {metric.meaning or metric.definition}." for metric in metrics)


def _unknown(cohort: Cohort) -> str:
    """That scans stand for patients, where the run does not say whose they are."""
    keys = [record.key for record in cohort.records if record.scores and not record.scores.patients]
    if not keys:
        return ""
    return f" Run {', '.join(keys)} does not say whose scans it was scored on: each counts as a patient of its own."


def _class_cells(scores: Scores, label: int) -> list[object]:
    patients = scores.by_patient("dice", label)
    dice = mean_interval(patients)
    bounds = f"{100 * dice.low:.1f} to {100 * dice.high:.1f}" if not math.isnan(dice.low) else "-"
    spread = [_spread(scores, column, label) for column in report_columns()]
    counts = scores.summary("dice", label).count, int((~np.isnan(patients)).sum())
    return [spread[0], bounds, *spread[1:], *counts]


def _spread(scores: Scores, column: Column, label: int) -> str:
    summary, digits = scores.summary(column.name, label), 1 if column.unit == "%" else 2
    mean = number(summary.mean * column.factor, digits)
    return mean if math.isnan(summary.std) else f"{mean} ± {number(summary.std * column.factor, digits)}"


def _boxes(cohort: Cohort, column: Column) -> Chart | None:
    groups = []
    for label in range(1, len(cohort.class_names)):
        boxes = [
            Box(
                record.key,
                (found.values(column.name, label) * column.factor).tolist(),
                found.cases,
                style_of(record.index),
            )
            for record, found in zip(cohort.records, cohort.scores, strict=True)
        ]
        groups.append((cohort.class_names[label], boxes))
    return box_plot(f"{column.metric.label} per class and scan", groups, unit=column.unit, from_zero=column.unit != "%")


def numbers(cohorts: Sequence[Cohort]) -> list[tuple[Record, Table]]:
    """Every score of every scan with the line of the file that it was read from."""
    heads = ("run", "line of scores.csv", "case", "class", *(column.heading for column in report_columns()))
    return [
        (record, Table(f"Scores of run {record.key}", heads, list(_lines(record, scores))))
        for cohort in cohorts
        for record, scores in zip(cohort.records, cohort.scores, strict=True)
    ]


def _lines(record: Record, scores: Scores) -> Iterator[list[object]]:
    for line, row in enumerate(scores.rows, start=2):
        values = (number(row.scores[column.name] * column.factor) for column in report_columns())
        yield [record.key, line, row.case, scores.class_names[row.label], *values]
