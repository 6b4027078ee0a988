"""The parts of a report that show predictions on scans, and list those that failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from semiseg.reports.cohort import Cohort
from semiseg.reports.findings import find_failures, summarised
from semiseg.reports.page import Table
from semiseg.reports.planes import class_colour
from semiseg.reports.records import Record
from semiseg.reports.slices import Stack, cut_stacks
from semiseg.reports.words import percent
from semiseg.scans.readers import read_channel, read_label

SHOWN = 25
"""Failures of a run that are listed at once; the others are behind a switch."""


@dataclass(frozen=True)
class CaseView:
    """A case in one or three planes; `dice` has a text per run, `side` the mm of every panel."""

    heading: str
    dice: tuple[str, ...]
    stacks: tuple[Stack, ...]
    side: float


@dataclass(frozen=True)
class Pictures:
    """Cases of a cohort, and name and colour of each class."""

    cohort: Cohort
    colours: tuple[tuple[str, str], ...]
    cases: tuple[CaseView, ...]


@dataclass(frozen=True)
class Failed:
    """Failures of a run, the first of them apart."""

    record: Record
    summary: str
    counted: bool
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Failures:
    """Failures of the runs of a cohort."""

    cohort: Cohort
    runs: tuple[Failed, ...]


def pictures(cohort: Cohort, *, most: int) -> Pictures:
    """Worst, median and best case, each in three planes with at most `most` slices, one row per run.

    Raises:
        InputError: a scan cannot be read.
    """
    extremes = cohort.extremes() if cohort.pictured and cohort.dataset else {}
    colours = tuple((name, class_colour(label)) for label, name in enumerate(cohort.class_names) if label)
    return Pictures(cohort, colours, tuple(_case(cohort, role, case, most) for role, case in extremes.items()))


def _case(cohort: Cohort, role: str, case: str, most: int) -> CaseView:
    found = cohort.dataset[case]
    volume = read_channel(found.images[0], 0, spacing=found.spacing)
    truth = read_label(cohort.labels[case]).array
    predictions = [read_label(cohort.predictions[record.key][case]).array for record in cohort.pictured]
    stacks = cut_stacks(volume.array, truth, predictions, volume.affine, most=most)
    side = max(max(stack.plane.millimetres) for stack in stacks)
    heading = f"{role.capitalize()} of {len(cohort.scores[0].cases)}: {case}"
    return CaseView(heading, tuple(_dice_of(record, case) for record in cohort.pictured), tuple(stacks), side)


def _dice_of(record: Record, case: str) -> str:
    assert record.scores is not None
    names = record.scores.class_names
    parts = [f"{names[row.label]} {percent(row.scores.dice)}" for row in record.scores.rows if row.case == case]
    return f"{record.key}: {', '.join(parts)}"


def failures(cohort: Cohort) -> Failures:
    """Failures of every run.

    Raises:
        InputError: a label file cannot be read.
    """
    return Failures(cohort, tuple(_failed(cohort)))


def _failed(cohort: Cohort) -> Iterator[Failed]:
    for record, scores in zip(cohort.records, cohort.scores, strict=True):
        files = cohort.predictions.get(record.key, {})
        found = find_failures(scores, files, cohort.labels)
        rows = [[finding.case, cohort.class_names[finding.label], finding.what] for finding in found]
        captions = f"Failures of run {record.key}", f"More failures of run {record.key}"
        parts = zip(captions, (rows[:SHOWN], rows[SHOWN:]), strict=True)
        tables = tuple(Table(caption, ("case", "class", "what happened"), part) for caption, part in parts if part)
        yield Failed(record, summarised(found), bool(files and cohort.labels), tables)
