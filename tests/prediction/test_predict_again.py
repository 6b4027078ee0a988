"""A folder of scans of which some cannot be read, and the same command again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import semiseg
from commands import semiseg as command
from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from semiseg.prediction import predict as module
from semiseg.preparing.prepare import prepare
from tiny import tiny_dataset, write_nifti

SETTINGS = {
    "method": "supervised",
    "accelerator": "cpu",
    "precision": "fp32",
    "network": {"options": {"filters": [4, 8]}},
    "batch": {"patch": [16, 16, 16], "labelled": 2, "unlabelled": 2},
    "steps": 1,
}
CASES = [f"case_{number:03d}" for number in range(4)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("again")
    data = tiny_dataset(folder / "data", cases=4, labelled=4)
    prepare(open_dataset(data), workers=1)
    return semiseg.train(data, folder / "run", seed=0, **SETTINGS).path


@pytest.fixture
def scans(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run.parent / "data" / "imagesTr", tmp_path / "scans")


def _predict(run: Path, scans: Path, **options: object) -> tuple[list[str], list[str]]:
    """Cases that were labelled, and lines that were said."""
    done: list[str] = []
    said: list[str] = []
    semiseg.predict(run, scans, scans.parent / "out", accelerator="cpu", done=done.append, say=said.append, **options)
    return done, said


def _spoil(scans: Path, case: str) -> bytes:
    path = scans / f"{case}_0000.nii.gz"
    whole = path.read_bytes()
    array = np.asarray(nib.load(path).dataobj).astype(np.float32)
    array[0, 0, 0] = np.nan
    write_nifti(path, array)
    return whole


@pytest.mark.parametrize("how", ["not finite", "cut off", "no scan"])
def test_a_scan_that_cannot_be_read_is_told_after_the_others_are_labelled(run: Path, scans: Path, how: str) -> None:
    path = scans / "case_001_0000.nii.gz"
    whole = _spoil(scans, "case_001")
    if how != "not finite":
        path.write_bytes(whole[:300] if how == "cut off" else b"<html>not found</html>")
    answer = command("predict", run, scans, "-o", scans.parent / "out", "--accelerator", "cpu")
    assert (answer.returncode, "Traceback" in answer.stderr) == (2, False)
    problems = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
    assert len(problems) == 2
    assert str(path) in problems[0]
    assert "1 of 4 scan(s) could not be read, 3 are labelled" in problems[1]
    assert sorted(file.name for file in (scans.parent / "out").glob("*.nii.gz")) == [
        f"{case}.nii.gz" for case in CASES if case != "case_001"
    ]


def test_the_same_call_again_labels_what_was_mended_and_keeps_the_rest(run: Path, scans: Path) -> None:
    whole = _spoil(scans, "case_001")
    with pytest.raises(InputError):
        _predict(run, scans)
    (scans / "case_001_0000.nii.gz").write_bytes(whole)
    done, said = _predict(run, scans)
    assert done == ["case_001"]
    assert said == ["3 scan(s) are labelled by this model already: kept (--overwrite labels them again)"]
    assert _predict(run, scans)[0] == []
    assert _predict(run, scans, overwrite=True)[0] == CASES


def test_a_killed_prediction_is_continued(run: Path, scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def write(path: Path, *more: object, **named: object) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        module_write(path, *more, **named)  # type: ignore[arg-type]

    module_write = module.write_label
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_label", write)
        with pytest.raises(KeyboardInterrupt):
            _predict(run, scans)
    assert _predict(run, scans)[0] == CASES[2:]


def test_what_has_changed_is_labelled_again(run: Path, scans: Path) -> None:
    out = scans.parent / "out"
    _predict(run, scans)
    image = nib.load(scans / "case_000_0000.nii.gz")
    write_nifti(scans / "case_000_0000.nii.gz", np.asarray(image.dataobj)[::-1].copy())
    (out / "case_002.nii.gz").write_bytes((out / "case_003.nii.gz").read_bytes())
    (out / "case_003.nii.gz").unlink()
    assert _predict(run, scans)[0] == ["case_000", "case_002", "case_003"]
    record = next((out / ".predicted").glob("case_001*"))
    record.write_text(json.dumps({"made": "x" * 64}))
    assert _predict(run, scans)[0] == ["case_001"]


def test_another_model_or_other_windows_label_everything_again(run: Path, scans: Path, tmp_path: Path) -> None:
    _predict(run, scans)
    assert _predict(run, scans, overlap=0.25)[0] == CASES
    assert _predict(run, scans, overlap=0.25, largest_component=True)[0] == CASES
    other = semiseg.train(run.parent / "data", tmp_path / "other", seed=1, **SETTINGS).path
    assert _predict(other, scans, overlap=0.25, largest_component=True)[0] == CASES
    assert _predict(other, scans, overlap=0.25, largest_component=True)[0] == []


def test_records_are_not_written_through_a_link(run: Path, scans: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (scans.parent / "out").mkdir()
    (scans.parent / "out" / ".predicted").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="remove the link"):
        _predict(run, scans)


def test_a_scan_without_orientation_is_told(run: Path, scans: Path) -> None:
    image = nib.load(scans / "case_000_0000.nii.gz")
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nib.save(image, scans / "case_000_0000.nii.gz")
    (line,) = _predict(run, scans)[1]
    assert line.startswith("warning: 1 scan(s), such as 'case_000', record no orientation")


def test_a_constant_scan_is_told(run: Path, scans: Path) -> None:
    write_nifti(scans / "case_000_0000.nii.gz", np.full((20, 18, 16), 7, np.int16))
    (line,) = _predict(run, scans)[1]
    assert line == "warning: case_000: channel0: expected an image, came the constant 7: the label means nothing"
