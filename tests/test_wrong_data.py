"""Data that would make results wrong without a word: leakage between roles, lost values, scans that are too small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import semiseg
from semiseg.errors import InputError
from semiseg.scans.readers import read_image
from tiny import tiny_dataset, write_nifti


def _split(path: Path, **roles: list[str]) -> Path:
    path.write_text(json.dumps(roles))
    return path


def _refused(data: Path, split: Path, **settings: object) -> str:
    with pytest.raises(InputError) as caught:
        semiseg.train(data, split.parent / "run", method="supervised", split=split, steps=1, **settings)
    return "\n".join(caught.value.problems)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny_dataset(tmp_path / "data", cases=4, labelled=4, shape=(12, 10, 8))


def test_a_scan_under_two_ids_cannot_be_trained_and_tested_on(data: Path, tmp_path: Path) -> None:
    """Also when the copy is stored as another type, so that the files differ."""
    scan = np.asarray(nib.load(data / "imagesTr/case_000_0000.nii.gz").dataobj).astype(np.float32)
    write_nifti(data / "imagesTr/case_003_0000.nii.gz", scan)
    split = _split(tmp_path / "split.json", labelled=["case_000"], test=["case_003"])
    message = _refused(data, split)
    assert "expected copies of one scan (patients 'case_000', 'case_003') on one side of the split" in message
    assert "came in training ('case_000'), test ('case_003'): move all of these cases to one side" in message


@pytest.mark.parametrize("role", ["validation", "test"])
def test_a_patient_of_patients_json_cannot_have_two_roles(data: Path, tmp_path: Path, role: str) -> None:
    (data / "patients.json").write_text(json.dumps({"case_001": "anna", "case_002": "anna"}))
    split = _split(tmp_path / "split.json", labelled=["case_000"], unlabelled=["case_001"], **{role: ["case_002"]})
    assert f"expected patient 'anna' on one side of the split, came in training ('case_001'), {role} ('case_002')" in (
        _refused(data, split)
    )


def test_a_patient_of_a_pattern_cannot_have_two_roles(data: Path, tmp_path: Path) -> None:
    split = _split(tmp_path / "split.json", labelled=["case_000"], test=["case_001"])
    message = _refused(data, split, patient_pattern=r"case_(\d\d)")
    assert "expected patient '00' on one side of the split" in message


def test_a_case_cannot_have_two_roles(data: Path, tmp_path: Path) -> None:
    split = _split(tmp_path / "split.json", labelled=["case_000"], test=["case_000"])
    assert "expected one role per case, came 'case_000' in labelled and test: keep one of them" in _refused(data, split)


def test_a_wrong_split_is_told_before_the_preparation(data: Path, tmp_path: Path) -> None:
    assert "labelled: " in _refused(data, _split(tmp_path / "split.json", labelled=["case_009"]))
    assert "there is no such file: did you mean 'split.json'" in _refused(data, tmp_path / "splits.json")
    assert not (data / "prepared").exists()


@pytest.mark.parametrize(("dtype", "value"), [(np.uint16, 65535), (np.int32, 1_000_000), (np.float64, 40000.5)])
def test_values_beyond_int16_come_through(tmp_path: Path, dtype: type, value: float) -> None:
    array = np.full((3, 3, 3), value, dtype=dtype)
    assert (read_image([write_nifti(tmp_path / "a.nii.gz", array)]).array == np.float32(value)).all()


@pytest.mark.slow
def test_scans_smaller_than_the_patch_fewer_than_the_batch_and_without_foreground(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", cases=3, labelled=2, shape=(9, 8, 7))
    label = data / "labelsTr/case_001.nii.gz"
    write_nifti(label, np.zeros((9, 8, 7), np.uint8))
    warnings = semiseg.check(data).warnings
    assert any("came background only" in warning for warning in warnings)
    small: dict[str, Any] = {"network": {"options": {"filters": [4, 8]}}, "batch": {"patch": [16, 16, 16]}}
    run = semiseg.train(data, tmp_path / "run", method="mean_teacher", steps=2, precision="fp32", **small)
    assert run.finished
    written = semiseg.predict(run.path, data / "imagesTr", tmp_path / "out", accelerator="cpu")
    assert all(nib.load(path).shape == (9, 8, 7) for path in written.values())
