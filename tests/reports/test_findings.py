"""The list of failures: every kind is found, the worst come first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semiseg.evaluation.evaluate import evaluate, label_files
from semiseg.reports.findings import count_pieces, find_failures, summarised
from tiny import write_nifti


def test_pieces_are_counted_per_class() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[0:4, 0:4] = 2
    labels[4, 4] = 2  # shares a corner
    labels[10:12, 10:12] = 2
    labels[15, 15] = 1
    found = count_pieces(labels)
    assert found[1].count == 1
    assert found[2].count == 2
    assert found[2].crumbs == pytest.approx(4 / 21)


def test_every_kind_of_failure(tmp_path: Path) -> None:
    truth = np.zeros((20, 12, 8), np.uint8)
    truth[2:8, 2:8, 2:6] = 1
    empty, other, pieces = truth * 0, np.roll(truth, 9, 0), truth.copy()
    pieces[12, 2, 2] = pieces[15, 2, 2] = 1
    invented = truth.copy()
    invented[15:18, 2:4, 2:4] = 2
    for folder in "pt":
        (tmp_path / folder).mkdir()
    for case, prediction in {"d": truth, "c": pieces, "b": other, "a": invented, "e": empty}.items():
        write_nifti(tmp_path / "p" / f"{case}.nii.gz", prediction)
        write_nifti(tmp_path / "t" / f"{case}.nii.gz", truth)
    scores = evaluate(tmp_path / "p", tmp_path / "t", class_names=("background", "organ", "tumour"))
    found = find_failures(scores, label_files(tmp_path / "p"), label_files(tmp_path / "t"))
    assert [(finding.case, finding.label) for finding in found] == [("e", 1), ("b", 1), ("a", 2), ("c", 1)]
    assert "not found at all: the reference has 144 voxels" in found[0].what
    assert "in 3 pieces (reference: 1); 1.4 % outside the largest" in found[3].what
    assert summarised(found) == "1 not found at all, 1 found elsewhere, 1 invented, 1 in many pieces"
    assert summarised([]) == "none"
    without_files = find_failures(scores, {}, {})
    assert [finding.case for finding in without_files] == ["e", "b", "a"]
