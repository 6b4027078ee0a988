"""Scores come back from their files as they were written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semiseg.errors import InputError
from semiseg.evaluation.evaluate import evaluate
from semiseg.evaluation.score_files import load_scores
from tiny import write_nifti


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for index in range(3):
        for name in ("p", "t"):
            (tmp_path / name).mkdir(exist_ok=True)
            labels = np.zeros((12, 10, 8), np.uint8)
            labels[2:8, 2:7, 2:6] = rng.integers(0, 3, (6, 5, 4)) if index else 0
            write_nifti(tmp_path / name / f"c{index}.nii.gz", labels)
    scores = evaluate(tmp_path / "p", tmp_path / "t", class_names=("background", "a, b", '"c"'))
    replace(scores, provenance={**scores.provenance, "stamps": ["test-selected"]}).save(tmp_path)
    return tmp_path


def test_files_come_back(folder: Path) -> None:
    scores = load_scores(folder)
    before = {name: (folder / name).read_bytes() for name in ("scores.csv", "scores.json")}
    assert scores.class_names == ("background", "a, b", '"c"')
    assert scores.stamps == ("test-selected",)
    scores.save(folder)
    assert (folder / "scores.csv").read_bytes() == before["scores.csv"]
    assert json.loads((folder / "scores.json").read_text()) == json.loads(before["scores.json"])


@pytest.mark.parametrize("broken", ["scores.csv", "scores.json"])
def test_broken_files_are_named(folder: Path, broken: str) -> None:
    (folder / broken).write_text("case,class\nx,y\n")
    with pytest.raises(InputError, match="run semiseg evaluate"):
        load_scores(folder)
    (folder / broken).unlink()
    with pytest.raises(InputError, match=f"{broken}: cannot be read"):
        load_scores(folder)


def test_a_table_and_a_json_of_two_evaluations_are_no_pair(folder: Path, tmp_path: Path) -> None:
    """As a kill between the two leaves them."""
    load_scores(folder)
    evaluate(tmp_path / "t", tmp_path / "t", output=tmp_path / "other")
    (folder / "scores.csv").write_bytes((tmp_path / "other" / "scores.csv").read_bytes())
    with pytest.raises(InputError, match=r"not the one that scores\.json belongs to.*run semiseg evaluate"):
        load_scores(folder)
