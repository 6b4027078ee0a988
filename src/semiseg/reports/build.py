"""`semiseg report`: from run folders to one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

from semiseg.reports import training
from semiseg.reports.cases import RULES, failures, pictures
from semiseg.reports.cohort import Cohort, gather
from semiseg.reports.markup import Markup, join, tag
from semiseg.reports.page import Section, page
from semiseg.reports.records import Record, read_records
from semiseg.reports.results import classes, lead, numbers, overview, warnings
from semiseg.reports.setup import setup
from semiseg.system.files import write_text

LIMIT = 4_500_000
"""Bytes of a report that is still sent by mail; pictures get fewer slices until it fits."""

SLICES = 28
"""Most slices per plane."""


def write_report(paths: Sequence[Path], output: Path | None = None) -> Path:
    """Write the report of these runs; no label is opened that `evaluate` has not opened before.

    Args:
        paths: run folders.
        output: file to write; default: `report.html` in the run folder, or here when there are several.

    Raises:
        InputError: a run cannot be read, or the file cannot be written; all problems are named.
    """
    records = read_records(paths)
    target = output or (records[0].run.path / "report.html" if len(records) == 1 else Path("report.html"))
    write_text(target, report(records))
    return target


def report(records: Sequence[Record]) -> str:
    """The report as HTML."""
    cohorts = gather(records)
    failed = _per_cohort(cohorts, failures)
    most, html = SLICES, ""
    while most and (not html or len(html.encode()) > LIMIT):
        html = _document(records, cohorts, failed, _per_cohort(cohorts, partial(pictures, most=most)))
        most = int(0.9 * most * min(LIMIT / len(html.encode()), 1))
    return html


def _document(records: Sequence[Record], cohorts: Sequence[Cohort], failed: Markup, shown: Markup) -> str:
    sections = [Section("result", "Result", join([warnings(records), overview(records)]))]
    if cohorts:
        sections += [
            Section("classes", "Scores per class", _per_cohort(cohorts, classes)),
            Section("cases", "Worst, median and best case", shown),
            Section("failures", "Failures", join([failed, tag("p", RULES, class_="note")])),
        ]
    sections += [
        Section("training", "Training", training.losses(records)),
        Section("validation", "Validation", training.validation(records)),
        Section("pseudo-labels", "Quality of pseudo-labels", training.pseudo_labels(records)),
        Section("observed", "Class weights and thresholds", training.observed(records)),
        Section("setup", "Setup and how to reproduce it", setup(records)),
    ]
    if cohorts:
        sections.append(Section("numbers", "All numbers", numbers(cohorts)))
    names = ", ".join(record.name for record in records)
    footer = tag("p", f"Made by semiseg {version('semiseg')}. For research; not a medical device.")
    return page(f"Segmentation report: {names}", lead(records), sections, footer)


def _per_cohort(cohorts: Sequence[Cohort], part: Callable[[Cohort], Markup]) -> Markup:
    if len(cohorts) == 1:
        return part(cohorts[0])
    return join(
        join([tag("h3", f"Runs {', '.join(record.key for record in cohort.records)}"), part(cohort)])
        for cohort in cohorts
    )
