"""`semiseg report`: from run folders to one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from semiseg.reports import training
from semiseg.reports.cases import failures, pictures
from semiseg.reports.cohort import gather
from semiseg.reports.findings import RULES
from semiseg.reports.page import Section, render
from semiseg.reports.records import Record, read_records
from semiseg.reports.results import classes, numbers, outcome, overview
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
    cohorts, outcomes = gather(records), [outcome(record) for record in records]
    sections = [Section("result", "Result", "result", (records, overview(outcomes)))]
    if cohorts:
        failed = [failures(cohort) for cohort in cohorts]
        sections += [
            Section("classes", "Scores per class", "classes", [classes(cohort) for cohort in cohorts]),
            Section("failures", "Failures", "failures", (failed, RULES)),
        ]
    sections += [
        Section("training", "Training", "curves", training.losses(records)),
        Section("validation", "Validation", "curves", training.validation(records)),
        Section("pseudo-labels", "Quality of pseudo-labels", "curves", training.pseudo_labels(records)),
        Section("observed", "Class weights and thresholds", "curves", training.observed(records)),
        Section("setup", "Setup and how to reproduce it", "setup", [setup(record) for record in records]),
    ]
    if cohorts:
        sections.append(Section("numbers", "All numbers", "numbers", numbers(cohorts)))
    title = f"Segmentation report: {', '.join(record.name for record in records)}"
    most, html = SLICES, ""
    while most and (not html or len(html.encode()) > LIMIT):
        shown = list(sections)
        if cohorts:
            cases = [pictures(cohort, most=most) for cohort in cohorts]
            shown.insert(2, Section("cases", "Worst, median and best case", "cases", cases))
        html = render(title, outcomes, shown, version("semiseg"))
        most = int(0.9 * most * min(LIMIT / len(html.encode()), 1))
    return html
