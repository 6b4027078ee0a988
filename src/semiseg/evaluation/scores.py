"""Scores of a set of predictions: rows per case and class, their summary, and the files that hold them."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from semiseg.metrics.base import columns, metrics
from semiseg.metrics.empty import EMPTY_RULES, EmptyRule
from semiseg.metrics.mask_scores import MaskScores
from semiseg.metrics.statistics import over_patients
from semiseg.system.files import write_json, write_text


@dataclass(frozen=True)
class Row:
    """Scores of one class of one case."""

    case: str
    label: int
    scores: MaskScores


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (nan below two values) over the `count` cases where a metric is defined."""

    mean: float
    std: float
    count: int


@dataclass(frozen=True)
class Scores:
    """All scores of one evaluation.

    Attributes:
        rows: by case, then by label; every case has a row for every foreground class.
        class_names: index is the label value, background first.
        empty: rule for empty masks, see `EMPTY_RULES`.
        largest_component: whether only the largest component of each predicted class was kept.
        provenance: what the scores were computed from and by.
        unit: distances that tables show; files hold both.
    """

    rows: tuple[Row, ...]
    class_names: tuple[str, ...]
    empty: EmptyRule
    largest_component: bool
    provenance: Mapping[str, Any] = field(default_factory=dict)
    unit: Literal["both", "mm", "voxel"] = "both"

    @property
    def stamps(self) -> tuple[str, ...]:
        """What the scores owe to labels that a user would not have, such as `test-selected`."""
        return tuple(self.provenance.get("stamps", ()))

    @property
    def patients(self) -> Mapping[str, str]:
        """Patient by case; empty where it is not known whose scans were scored, as of plain folders."""
        return patients_in(self.provenance)

    def by_patient(self, metric: str, label: int | None = None) -> NDArray[np.float64]:
        """One metric averaged over the scans of each patient, `[patients]`, of one class or of the mean over classes.

        A case of whom nothing is known is a patient of its own; nan where the metric is undefined.
        """
        if label is None:
            values = self.case_means(metric)
        else:
            values = dict(zip(self.cases, self.values(metric, label).tolist(), strict=True))
        return np.array(list(over_patients(values, self.patients).values()), np.float64)

    @property
    def cases(self) -> tuple[str, ...]:
        """Case ids in order."""
        return tuple(dict.fromkeys(row.case for row in self.rows))

    def of_class(self, label: int) -> tuple[Row, ...]:
        """The rows of one class, one per case."""
        return tuple(row for row in self.rows if row.label == label)

    def values(self, metric: str, label: int) -> NDArray[np.float64]:
        """One metric of one class, `[cases]`, in the order of `cases`; nan where it is undefined."""
        return np.array([row.scores[metric] for row in self.of_class(label)])

    def summary(self, metric: str, label: int) -> Summary:
        """One metric of one class over the cases where it is defined."""
        return _summary(self.values(metric, label))

    def mean(self, metric: str) -> float:
        """Mean over foreground classes of the class means; a class that is defined in no case is left out."""
        return _summary([self.summary(metric, label).mean for label in range(1, len(self.class_names))]).mean

    def case_means(self, metric: str = "dice") -> dict[str, float]:
        """For each case the mean over the classes where the metric is defined; nan where there is none."""
        values = {case: [row.scores[metric] for row in self.rows if row.case == case] for case in self.cases}
        return {case: _summary(found).mean for case, found in values.items()}

    def table(self) -> str:
        """The summary as plain text."""
        from semiseg.evaluation.tables import plain

        return plain(self)

    def save(self, folder: Path) -> None:
        """Write `scores.csv` (a row per case and class), then `scores.json` (definitions, summary, provenance, and the
        checksum of the table, so that the two are never taken for a pair when they are none).

        Equal predictions and labels give equal bytes.

        Raises:
            InputError: the folder cannot be written.
        """
        table = self.to_csv()
        write_text(folder / "scores.csv", table)
        digest = hashlib.sha256(table.encode()).hexdigest()
        write_json(folder / "scores.json", {**self.to_json(), "table_sha256": digest})

    def to_csv(self) -> str:
        """Tidy table: case, class, metrics (`nan` where undefined), voxel counts and whether a mask is empty."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        sides = ("prediction", "truth")
        writer.writerow(
            ["case", "class", "label", *columns(), *(f"{s}_voxels" for s in sides), *(f"{s}_empty" for s in sides)]
        )
        for row in self.rows:
            voxels = row.scores.prediction_voxels, row.scores.truth_voxels
            found = (row.scores[metric] for metric in columns())
            writer.writerow(
                [row.case, self.class_names[row.label], row.label, *found, *voxels, *(int(n == 0) for n in voxels)]
            )
        return file.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Everything but the rows, as JSON values; undefined numbers are null."""
        labels = range(1, len(self.class_names))
        return {
            "metrics": {metric.name: metric.definition for metric in metrics()},
            "units": "metrics that end in _mm use the voxel spacing of the label file, _voxel do not",
            "statistics": "std is the sample standard deviation over cases; mean is the mean of the class means",
            "empty_rule": {"name": self.empty, "meaning": EMPTY_RULES[self.empty]},
            "largest_component": self.largest_component,
            "stamps": list(self.stamps),
            "cases": len(self.cases),
            "patients": len(set(self.patients.values())) or None,
            "classes": {self.class_names[label]: self._class_json(label) for label in labels},
            "mean": {metric: _or_null(self.mean(metric)) for metric in columns()},
            "provenance": dict(self.provenance),
        }

    def _class_json(self, label: int) -> dict[str, Any]:
        found: dict[str, Any] = {"label": label} | empty_counts(self.of_class(label))
        for metric in columns():
            summary = self.summary(metric, label)
            found[metric] = {"mean": _or_null(summary.mean), "std": _or_null(summary.std), "cases": summary.count}
        return found


def patients_in(facts: Mapping[str, Any]) -> dict[str, str]:
    """Patient by scored case in the provenance of a run or of scores; empty where it does not tell."""
    found = facts.get("patients")
    pairs = found.items() if isinstance(found, Mapping) else ()
    return {case: patient for case, patient in pairs if isinstance(patient, str)}


def empty_counts(rows: Iterable[Row]) -> dict[str, int]:
    """How many rows have an empty prediction, an empty truth, or both (those also count in the first two)."""
    empty = [(row.scores.prediction_voxels == 0, row.scores.truth_voxels == 0) for row in rows]
    return {
        "empty_predictions": sum(prediction for prediction, _ in empty),
        "empty_truths": sum(truth for _, truth in empty),
        "empty_both": sum(prediction and truth for prediction, truth in empty),
    }


def _summary(values: Iterable[float]) -> Summary:
    defined = [value for value in values if not math.isnan(value)]
    mean = float(np.mean(defined)) if defined else math.nan
    return Summary(mean, float(np.std(defined, ddof=1)) if len(defined) > 1 else math.nan, len(defined))


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value
