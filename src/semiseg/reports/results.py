"""The part of a report that answers: how good are the predictions, and where does each number come from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from semiseg.evaluation.scores import Scores
from semiseg.metrics.base import Column, shown_columns
from semiseg.metrics.empty import EMPTY_RULES
from semiseg.metrics.statistics import mean_interval
from semiseg.reports.charts import Box, box_plot, linear_axis, style_of, swatch
from semiseg.reports.cohort import Cohort
from semiseg.reports.markup import Markup, join, tag
from semiseg.reports.records import Record
from semiseg.reports.tables import index_of, run_label, source, table


def lead(records: Sequence[Record]) -> Markup:
    """The result in a sentence per run."""
    return join(tag("p", _sentence(record), class_="lead") for record in records)


def _sentence(record: Record) -> Markup:
    split, scores = record.split, record.scores
    trained = f" learned from {_scans(len(split.labelled), 'labelled')}"
    if record.facts.get("label_budget", {}).get("selection"):
        trained += f" (and {record.facts['label_budget']['selection']} more that chose its weights)"
    trained += f" and {_scans(record.unlabelled, 'unlabelled')}" if record.unlabelled else ""
    name = join([tag("b", record.key), " ", tag("b", record.config.method)])
    if scores is None:
        return join([name, f"{trained}. It has not been scored yet: run semiseg predict, then semiseg evaluate."])
    overall = mean_interval(scores.by_patient("dice"))
    spread = (
        f" (95 % interval {100 * overall.low:.1f} to {100 * overall.high:.1f})" if not math.isnan(overall.low) else ""
    )
    count = f"{len(scores.cases)} other scan{'s' * (len(scores.cases) != 1)}{_whose(scores)}"
    result = join([" On ", count, " its mean Dice is ", tag("b", percent(overall.mean)), " %", spread, "."])
    return join([name, trained, ".", result])


def _scans(count: int, kind: str) -> str:
    return f"{count} {kind} scan{'s' * (count != 1)}"


def _whose(scores: Scores) -> str:
    """How many patients the scans are of, where that is known."""
    patients = len(set(scores.patients.values()))
    return f" of {patients} patient{'s' * (patients != 1)}" if patients else ""


def warnings(records: Sequence[Record]) -> Markup:
    """A banner for runs whose results a user would not reach."""
    found = [record for record in records if record.stamps]
    return join(
        tag(
            "p",
            tag("b", f"Not an honest result: {', '.join(record.stamps)}. "),
            _why(record),
            class_="stamp",
            role="note",
        )
        for record in found
    )


def _why(record: Record) -> str:
    return (
        f"Run {record.key} used labels of test scans that a user would not have; its scores are for comparison with "
        "publications that did the same."
    )


def overview(records: Sequence[Record]) -> Markup:
    """A line per run: who it is, what it was given, what it reached."""
    heads = (
        "run",
        "method",
        "labels: training + selection",
        "unlabelled scans used",
        "steps",
        "Dice %",
        "95HD mm",
        "scans scored",
        "protocol",
    )
    rows = [[_run_cell(record), record.config.method, *_given(record), *_reached(record)] for record in records]
    return join([table("Runs", heads, rows), source(records, "scores.json", "evaluate")])


def _run_cell(record: Record) -> Markup:
    return join([swatch(style_of(index_of(record))), " ", run_label(record)])


def _given(record: Record) -> list[object]:
    budget = record.facts.get("label_budget", {})
    labels = f"{budget.get('training', len(record.split.labelled))} + {budget.get('selection', 0)}"
    return [labels, record.unlabelled, f"{record.steps} of {record.config.steps}"]


def _reached(record: Record) -> list[object]:
    scores, protocol = record.scores, str(record.facts.get("protocol", record.config.protocol))
    if scores is None:
        return ["not scored", "", "", protocol]
    return [percent(scores.mean("dice")), number(scores.mean("hd95_mm")), len(scores.cases), protocol]


def classes(cohort: Cohort) -> Markup:
    """Table and box plots per class."""
    names, scores = cohort.class_names, cohort.scores
    first, *others = (column.heading for column in report_columns())
    heads = ("class", "run", first, "95 % interval", *others, "scans", "patients")
    rows = []
    for label in range(1, len(names)):
        for record, found in zip(cohort.records, scores, strict=True):
            rows.append([names[label], record.key, *_class_cells(found, label)])
    rule = scores[0].empty
    caption = (
        f"Mean ± standard deviation over scans. {_meanings()} Empty masks, rule {rule!r}: {EMPTY_RULES[rule]}. The "
        "interval is that of the mean Dice over patients, whose scans are averaged first (Student's t, corrected for "
        f"skewness).{_unknown(cohort)}"
    )
    plots = [_boxes(cohort, "dice", "Dice", 100.0, "%"), _boxes(cohort, "hd95_mm", "95HD", 1.0, "mm")]
    legend = tag("p", "A dot is a scan, the box holds the middle half of them, its bar is the median.", class_="note")
    return join(
        [
            table("Means over scans", heads, rows),
            tag("p", caption, class_="note"),
            tag("div", *plots, class_="charts"),
            legend,
            source(cohort.records, "scores.csv", "evaluate"),
        ]
    )


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
    spread = [_spread(scores, column.name, label, column.factor) for column in report_columns()]
    counts = scores.summary("dice", label).count, int((~np.isnan(patients)).sum())
    return [spread[0], bounds, *spread[1:], *counts]


def _spread(scores: Scores, metric: str, label: int, factor: float) -> str:
    summary = scores.summary(metric, label)
    digits = 1 if factor == 100 else 2
    if math.isnan(summary.mean):
        return "-"
    shown = f"{summary.mean * factor:.{digits}f}"
    return shown if math.isnan(summary.std) else f"{shown} ± {summary.std * factor:.{digits}f}"


def _boxes(cohort: Cohort, metric: str, title: str, factor: float, unit: str) -> Markup:
    groups = []
    for label in range(1, len(cohort.class_names)):
        boxes = [
            Box(record.key, (found.values(metric, label) * factor).tolist(), found.cases, style_of(index_of(record)))
            for record, found in zip(cohort.records, cohort.scores, strict=True)
        ]
        groups.append((cohort.class_names[label], boxes))
    values = [value for _, boxes in groups for box in boxes for value in box.values if math.isfinite(value)]
    if not values:
        return Markup()
    low = min(values) if metric == "dice" else 0.0
    return box_plot(f"{title} per class and scan", groups, linear_axis(low, max(values)), unit=unit)


def numbers(cohorts: Sequence[Cohort]) -> Markup:
    """Every score of every scan with the line of the file that it was read from."""
    heads = ("run", "line of scores.csv", "case", "class", *(column.heading for column in report_columns()))
    return join(
        tag(
            "details",
            tag("summary", f"All numbers of run {record.key} ({record.name}/scores.csv)"),
            table(f"Scores of run {record.key}", heads, list(_lines(record, scores))),
        )
        for cohort in cohorts
        for record, scores in zip(cohort.records, cohort.scores, strict=True)
    )


def _lines(record: Record, scores: Scores) -> Iterator[list[object]]:
    for line, row in enumerate(scores.rows, start=2):
        values = [number(row.scores[column.name] * column.factor) for column in report_columns()]
        yield [record.key, line, row.case, scores.class_names[row.label], *values]


def percent(value: float) -> str:
    """A share in percent, one decimal; a dash where there is none."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def number(value: float) -> str:
    """Two decimals; a dash where there is no value."""
    return "-" if math.isnan(value) else f"{value:.2f}"
