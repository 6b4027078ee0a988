"""A metric is a class in a file: it is found by itself, and shown wherever metrics are."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import semiseg.metrics
from scripts import load_script
from semiseg.comparison.cells import Cell, Role
from semiseg.comparison.outcomes import Outcome, read_scores
from semiseg.comparison.published import Paper
from semiseg.comparison.results import results_of
from semiseg.comparison.tables import document
from semiseg.comparison.work import Record
from semiseg.evaluation.evaluate import evaluate
from semiseg.evaluation.score_files import load_scores
from semiseg.metrics.base import columns, metrics
from semiseg.metrics.mask_scores import score_masks
from semiseg.settings.load import load_config
from tiny import write_nifti

FILE = '''
"""Difference of volumes."""

from semiseg.metrics.base import Metric
from semiseg.metrics.masks import MaskPair


class VolumeDifference(Metric):
    """Difference of volumes by the volume of the truth."""

    name = "volume_difference"
    label = "RVD"
    definition = "||P| - |T|| / |T|"
    meaning = "how far the volume is off"
    units = ("%",)
    higher_is_better = False

    def values(self, pair):
        return (abs(pair.prediction_voxels - pair.truth_voxels) / pair.truth_voxels,)

    def empty(self, pair):
        return (float("nan") if pair.both else 1.0,)
'''


@pytest.fixture
def new_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a metric whose file lies beside the others."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "volume_difference.py").write_text(FILE)
    monkeypatch.setattr(semiseg.metrics, "__path__", [*semiseg.metrics.__path__, str(folder)])
    _forget()
    yield "volume_difference"
    sys.modules.pop("semiseg.metrics.volume_difference", None)
    _forget()


def _forget() -> None:
    metrics.cache_clear()
    columns.cache_clear()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three predictions whose class 1 is a quarter too large, and their references; class 2 is in references only."""
    for side, length in (("p", 10), ("t", 8)):
        (tmp_path / side).mkdir()
        for case in range(3):
            labels = np.zeros((12, 10, 8), np.uint8)
            labels[:length, 2:7, 2:6] = 1
            labels[11] = 2 if side == "t" else 0
            write_nifti(tmp_path / side / f"c{case}.nii.gz", labels)
    return tmp_path / "p", tmp_path / "t"


def test_scores_and_files_have_it(new_metric: str, folders: tuple[Path, Path], tmp_path: Path) -> None:
    masks = np.zeros((2, 6, 6), bool)
    masks[0, :5, :4] = masks[1, :4, :4] = True
    assert score_masks(*masks)[new_metric] == 0.25
    assert score_masks(masks[0], np.zeros_like(masks[0]), empty="nan")[new_metric] == 1
    found = evaluate(*folders, output=tmp_path, workers=1)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "scores.csv").read_text())))
    assert [row[new_metric] for row in rows] == ["0.25", "1.0"] * 3
    facts = json.loads((tmp_path / "scores.json").read_text())
    assert facts["metrics"][new_metric] == "||P| - |T|| / |T|"
    assert facts["classes"]["class 1"][new_metric] == {"mean": 0.25, "std": 0.0, "cases": 3}
    assert facts["mean"][new_metric] == 0.625
    assert load_scores(tmp_path).summary(new_metric, 1) == found.summary(new_metric, 1)


def test_the_summary_and_the_report_have_it(new_metric: str, folders: tuple[Path, Path]) -> None:
    text = evaluate(*folders, workers=1).table()
    assert "RVD %" in text
    assert "25.00 ± 0.00" in text
    assert "RVD: ||P| - |T|| / |T|" in text
    from semiseg.reports import results

    assert "RVD %" in [column.heading for column in results.report_columns()]
    assert "RVD: how far the volume is off." in results._meanings()
    assert new_metric in columns()


def outcome(label: str, role: Role, shift: float, slope: float) -> Outcome:
    config = load_config(None, {"data": Path("set"), "method": label})
    rows = [(f"case{case}", "organ", "1", metric, shift + slope * case) for metric in columns() for case in range(8)]
    scores = pd.DataFrame(rows, columns=["case", "class", "label", "metric", "value"])
    cell = Cell(label, role, "l4", 0, 0, "", config)
    return Outcome(cell, Record("finished"), scores, (4, 0), 80, "honest", {}, 10, 2)


def test_a_comparison_has_and_tests_it(new_metric: str, tmp_path: Path) -> None:
    cells = [outcome("supervised", "control", 0.2, 0.01), outcome("micd", "method", 0.1, 0.02)]
    found = results_of(cells, tmp_path / "toy", True, Paper(), "t-one-sided")
    text = document(found.tables)
    assert "RVD % | p |" in text
    assert "| micd | 1 | 4 | 10 x 2 | 8 |" in text
    assert "17.00 [" in text
    frame = found.frame().query("method == 'micd' and metric == @new_metric and `class` == 'mean'")
    assert frame["mean"].item() == pytest.approx(0.17)
    assert frame["p"].item() < 0.001  # lower is better, and every patient is lower
    found.write()
    for name in ("cases.csv", "summary.csv", "table.csv", "table.json"):
        assert new_metric in (tmp_path / "toy" / name).read_text()


def test_the_page_about_metrics_has_it(new_metric: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    text = load_script("docs/generate.py").with_metrics(page)
    assert f"| `{new_metric}` | RVD | \\|\\|P\\| - \\|T\\|\\| / \\|T\\| | % | lower |" in text
    assert new_metric not in page


def test_only_files_of_the_package_count() -> None:
    assert [metric.name for metric in metrics()] == ["dice", "jaccard", "hd95", "asd", "assd", "hd", "asd_reversed"]


def test_files_of_before_it_was_there_are_read(
    folders: tuple[Path, Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    evaluate(*folders, output=tmp_path, workers=1)
    new = request.getfixturevalue("new_metric")
    scores = load_scores(tmp_path)
    assert np.isnan(scores.values(new, 1)).all()
    assert scores.mean("dice") > 0.4
    rows = read_scores(tmp_path / "scores.csv")
    assert rows[rows["metric"] == new]["value"].isna().all()
    assert "RVD %" in scores.table()
