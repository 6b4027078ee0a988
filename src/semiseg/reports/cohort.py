"""Runs that were scored on the same cases, and the files that their pictures are made of."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from semiseg.datasets.dataset import Case, open_dataset
from semiseg.errors import InputError
from semiseg.evaluation.pairs import label_files
from semiseg.evaluation.scores import Scores
from semiseg.reports.records import Record
from semiseg.system.files import sha256


@dataclass(frozen=True)
class Cohort:
    """Scored runs with equal cases, reference labels and classes: they can be shown side by side.

    Attributes:
        dataset: cases by id with files of images and labels; empty when the dataset is not there (any more).
        predictions: per run key, files by case id; runs whose files are gone or have changed since they were scored
            are left out.
        notes: why something is left out.
    """

    records: tuple[Record, ...]
    dataset: Mapping[str, Case] = field(default_factory=dict)
    predictions: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def scores(self) -> list[Scores]:
        """Of each run."""
        return [record.scores for record in self.records if record.scores]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Background first."""
        return self.scores[0].class_names

    @property
    def pictured(self) -> tuple[Record, ...]:
        """Runs whose predictions can be shown."""
        return tuple(record for record in self.records if record.key in self.predictions)

    @property
    def labels(self) -> dict[str, Path]:
        """Reference labels of the scored cases."""
        cases = {case: self.dataset[case] for case in self.scores[0].cases if case in self.dataset}
        return {case: found.label for case, found in cases.items() if found.label is not None}

    def extremes(self) -> dict[str, str]:
        """Case ids of the worst, median and best mean Dice over classes and runs."""
        by_run = [scores.case_means("dice") for scores in self.scores]
        return extremes({case: float(np.mean([means[case] for means in by_run])) for case in by_run[0]})


def extremes(means: Mapping[str, float]) -> dict[str, str]:
    """Case ids of the lowest, the middle and the highest mean, each once; ties go by case id.

    Cases where no class is defined (nan) are left out.
    """
    order = sorted((mean, case) for case, mean in means.items() if not math.isnan(mean))
    places = {"worst": 0, "median": (len(order) - 1) // 2, "best": -1}
    roles = tuple(places) if len(order) > 2 else ("worst", "best")[: len(order)]
    return {role: order[places[role]][1] for role in roles}


def gather(records: Sequence[Record]) -> list[Cohort]:
    """The scored runs, together where cases, reference labels and classes are the same."""
    together: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        if record.scores:
            key = record.scores.cases, record.scores.class_names, record.scores.provenance.get("labels_sha256")
            together.setdefault(key, []).append(record)
    return [_cohort(tuple(members)) for members in together.values()]


def _cohort(records: tuple[Record, ...]) -> Cohort:
    notes: list[str] = []
    dataset: Mapping[str, Case] = {}
    try:
        dataset = open_dataset(records[0].config.data, records[0].config.patient_pattern).cases
    except InputError as error:
        notes.append(f"No pictures: {error.problems[0]}")
    kept = {}
    for record in records:
        assert record.scores is not None
        try:
            files = label_files(record.run.predictions)
            files = {case: files[case] for case in record.scores.cases}
        except (InputError, KeyError):
            notes.append(f"Run {record.key}: no pictures, its predictions are not in the run folder (any more).")
            continue
        if digest(files) != record.scores.provenance.get("predictions_sha256"):
            notes.append(
                f"Run {record.key}: no pictures, its predictions have changed since they were scored; "
                f"run semiseg evaluate {record.run.path} again."
            )
            continue
        kept[record.key] = files
    cohort = Cohort(records, dataset, kept, tuple(notes))
    if dataset and digest(cohort.labels) != cohort.scores[0].provenance.get("labels_sha256"):
        changed = "No pictures: reference labels are missing or have changed since the runs were scored."
        return replace(cohort, dataset={}, notes=(*notes, changed))
    return cohort


def digest(files: Mapping[str, Path]) -> str:
    """Hash of label files by case id, as the provenance of scores has it."""
    return hashlib.sha256("\n".join(f"{case} {sha256(files[case])}" for case in sorted(files)).encode()).hexdigest()
