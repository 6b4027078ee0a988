"""The parts of a report that answer: how good are the predictions, and where does each number come from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from semiseg.evaluation.scores import METRICS, Scores
from semiseg.metrics.metrics import EMPTY_RULES
from semiseg.metrics.statistics import Interval, mean_interval
from semiseg.reports.charts import Box, Chart, box_plot, style_of
from semiseg.reports.cohort import Cohort
from semiseg.reports.page import Table
from semiseg.reports.records import Record
from semiseg.reports.words import number, percent


@dataclass(frozen=True)
class Measure:
    """A metric as the report shows it: heading, unit, and the factor that its values are multiplied by."""

    metric: str
    name: str
    unit: str
    factor: float = 1.0

    @property
    def heading(self) -> str:
        """Name and unit."""
        return f"{self.name} {self.unit}"


DICE, JACCARD = Measure("dice", "Dice", "%", 100.0), Measure("jaccard", "Jaccard", "%", 100.0)
HD95, ASD = Measure("hd95_mm", "95HD", "mm"), Measure("asd_mm", "ASD", "mm")


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
    reached = (DICE.heading, HD95.heading, "scans scored", "protocol")
    return Table("Runs", (*given, *reached), [_line(found) for found in outcomes])


def _line(found: Outcome) -> list[object]:
    record, scores = found.record, found.record.scores
    labels, steps = f"{found.training} + {found.selection}", f"{record.steps} of {record.config.steps}"
    given = [record, record.config.method, labels, record.unlabelled, steps]
    protocol = str(record.facts.get("protocol", record.config.protocol))
    if scores is None:
        return [*given, "not scored", "", "", protocol]
    return [*given, percent(scores.mean("dice")), number(scores.mean("hd95_mm")), found.scans, protocol]


def classes(cohort: Cohort) -> ClassScores:
    """Table and box plots per class."""
    names, scores = cohort.class_names, cohort.scores
    heads = ("class", "run", DICE.heading, "95 % interval", HD95.heading, ASD.heading, "scans", "patients")
    rows = [
        [names[label], record.key, *_class_cells(found, label)]
        for label in range(1, len(names))
        for record, found in zip(cohort.records, scores, strict=True)
    ]
    rule = scores[0].empty
    note = (
        "Mean ± standard deviation over scans. Dice: overlap of prediction and reference, 100 is perfect. 95HD: 95 % "
        "of the two surfaces are closer than this. ASD: mean distance of the predicted surface to the reference. Empty "
        f"masks, rule {rule!r}: {EMPTY_RULES[rule]}. The interval is that of the mean over patients, whose scans are "
        f"averaged first (Student's t, corrected for skewness).{_unknown(cohort)}"
    )
    charts = (_boxes(cohort, measure) for measure in (DICE, HD95))
    return ClassScores(cohort, Table("Means over scans", heads, rows), note, tuple(filter(None, charts)))


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
    spread = [_spread(scores, measure, label) for measure in (DICE, HD95, ASD)]
    counts = scores.summary("dice", label).count, int((~np.isnan(patients)).sum())
    return [spread[0], bounds, *spread[1:], *counts]


def _spread(scores: Scores, measure: Measure, label: int) -> str:
    summary, digits = scores.summary(measure.metric, label), 1 if measure.unit == "%" else 2
    mean = number(summary.mean * measure.factor, digits)
    return mean if math.isnan(summary.std) else f"{mean} ± {number(summary.std * measure.factor, digits)}"


def _boxes(cohort: Cohort, measure: Measure) -> Chart | None:
    groups = []
    for label in range(1, len(cohort.class_names)):
        boxes = [
            Box(
                record.key,
                (found.values(measure.metric, label) * measure.factor).tolist(),
                found.cases,
                style_of(record.index),
            )
            for record, found in zip(cohort.records, cohort.scores, strict=True)
        ]
        groups.append((cohort.class_names[label], boxes))
    return box_plot(f"{measure.name} per class and scan", groups, unit=measure.unit, from_zero=measure.unit != "%")


def numbers(cohorts: Sequence[Cohort]) -> list[tuple[Record, Table]]:
    """Every score of every scan with the line of the file that it was read from."""
    shown = (DICE, JACCARD, HD95, ASD)
    heads = ("run", "line of scores.csv", "case", "class", *(measure.heading for measure in shown))
    return [
        (record, Table(f"Scores of run {record.key}", heads, list(_lines(record, scores, shown))))
        for cohort in cohorts
        for record, scores in zip(cohort.records, cohort.scores, strict=True)
    ]


def _lines(record: Record, scores: Scores, shown: Sequence[Measure]) -> Iterator[list[object]]:
    for line, row in enumerate(scores.rows, start=2):
        values = (number(METRICS[measure.metric](row.scores) * measure.factor) for measure in shown)
        yield [record.key, line, row.case, scores.class_names[row.label], *values]
