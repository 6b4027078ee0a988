"""Failures so plain that no score is needed to see them: empty predictions, misses, many pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from semiseg.evaluation.scores import Row, Scores
from semiseg.scans.readers import read_label
from semiseg.system.parallel import worker_count

FEWEST = 3
"""From so many pieces a prediction is listed, if its reference has fewer."""


@dataclass(frozen=True)
class Pieces:
    """Connected components of a class: their number, and the share of its voxels outside the largest."""

    count: int
    crumbs: float


@dataclass(frozen=True)
class Finding:
    """A class of a case that failed; worse ones have a lower rank."""

    rank: int
    case: str
    label: int
    what: str


def find_failures(scores: Scores, predictions: Mapping[str, Path], labels: Mapping[str, Path]) -> list[Finding]:
    """Failures of scored cases, the worst kinds first; pieces are counted where both files are given.

    Raises:
        InputError: a file cannot be read.
    """
    cases = [case for case in scores.cases if case in predictions and case in labels]
    with ThreadPoolExecutor(worker_count(0, len(cases), 1 << 29)) as pool:
        found = pool.map(lambda case: (pieces_of(predictions[case]), pieces_of(labels[case])), cases)
    pieces = dict(zip(cases, found, strict=True))
    findings = [finding for row in scores.rows if (finding := _finding(row, *pieces.get(row.case, ({}, {}))))]
    return sorted(findings, key=lambda finding: (finding.rank, finding.case, finding.label))


def pieces_of(path: Path) -> dict[int, Pieces]:
    """Pieces of every class in a label file; voxels that share a corner are connected."""
    return count_pieces(read_label(path).array)


def count_pieces(labels: NDArray[Any]) -> dict[int, Pieces]:
    """Pieces of every class that occurs in `labels` `[*S]`."""
    structure = ndimage.generate_binary_structure(labels.ndim, labels.ndim)
    found = {}
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            numbered, count = ndimage.label(labels[box] == label, structure)
            sizes = np.bincount(numbered.ravel())[1:]
            found[label] = Pieces(int(count), float(1 - sizes.max() / sizes.sum()))
    return found


RULES = (
    "Listed are classes that were not found at all, found only where the reference has nothing, or invented, and "
    f"predictions in {FEWEST} or more pieces where the reference has fewer (voxels that share a corner are connected)."
)


def _finding(row: Row, predicted: Mapping[int, Pieces], true: Mapping[int, Pieces]) -> Finding | None:
    found, wanted = row.scores.prediction_voxels, row.scores.truth_voxels
    if wanted and not found:
        return Finding(0, row.case, row.label, f"not found at all: the reference has {wanted} voxels")
    if found and wanted and row.scores.dice == 0:
        return Finding(1, row.case, row.label, f"found elsewhere: {found} voxels, none of them in the reference")
    if found and not wanted:
        return Finding(2, row.case, row.label, f"invented: {found} voxels, the reference has none")
    pieces, reference = predicted.get(row.label), true.get(row.label)
    if pieces and reference and pieces.count >= FEWEST and pieces.count > reference.count:
        what = (
            f"in {pieces.count} pieces (reference: {reference.count}); {100 * pieces.crumbs:.1f} % outside the largest"
        )
        return Finding(3, row.case, row.label, what)
    return None


def summarised(findings: Sequence[Finding]) -> str:
    """How many failures of which kind."""
    kinds = ("not found at all", "found elsewhere", "invented", "in many pieces")
    counts = [sum(finding.rank == rank for finding in findings) for rank in range(len(kinds))]
    parts = [f"{count} {word}" for count, word in zip(counts, kinds, strict=True) if count]
    return ", ".join(parts) or "none"
