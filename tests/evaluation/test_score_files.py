"""Scores come back from their files as they were written."""

from __future__ import annotations

import hashlib
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


EARLIER = (
    "case,class,label,dice,jaccard,hd95_mm,hd95_voxel,asd_mm,asd_voxel,assd_mm,assd_voxel,hd_mm,hd_voxel,"
    "prediction_voxels,truth_voxels,prediction_empty,truth_empty\n"
    "c0,organ,1,0.8,0.6666666666666666,2.5,5.0,0.5,1.0,0.75,1.5,4.0,8.0,12,13,0,0\n"
    "c1,organ,1,0.0,0.0,13.0,13.0,13.0,13.0,13.0,13.0,13.0,13.0,0,9,1,0\n"
)
"""A table as written before the distances from the truth to the prediction stood in it."""


def test_a_table_of_an_earlier_version_is_read(folder: Path) -> None:
    facts = json.loads((folder / "scores.json").read_text())
    facts["classes"] = {"organ": facts["classes"]["a, b"]}
    facts["table_sha256"] = hashlib.sha256(EARLIER.encode()).hexdigest()
    (folder / "scores.json").write_text(json.dumps(facts))
    (folder / "scores.csv").write_text(EARLIER)
    scores = load_scores(folder)
    assert scores.values("dice", 1).tolist() == [0.8, 0.0]
    assert scores.values("hd95_mm", 1).tolist() == [2.5, 13.0]
    assert np.isnan(scores.values("asd_reversed_mm", 1)).all()
    assert [row.scores.truth_voxels for row in scores.rows] == [13, 9]
