"""Predictions and scores when files vanish, several work at once, or something stands where labels shall go."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import semiseg
from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from semiseg.evaluation import evaluate
from semiseg.prediction import predict as module
from semiseg.preparing.prepare import prepare
from semiseg.runs.folder import Run
from semiseg.system.locks import locked
from tiny import tiny_dataset

SETTINGS = {
    "method": "supervised",
    "labelled": 2,
    "test": 3,
    "steps": 1,
    "accelerator": "cpu",
    "precision": "fp32",
    "network": {"options": {"filters": [4, 8]}},
    "batch": {"patch": [16, 16, 16], "labelled": 2, "unlabelled": 2},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    data = tiny_dataset(folder / "data", cases=6, labelled=6)
    prepare(open_dataset(data), workers=1)
    return semiseg.train(data, folder / "run", **SETTINGS).path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run with predictions."""
    run = shutil.copytree(trained, tmp_path / "run")
    semiseg.predict(run, accelerator="cpu")
    return run


def _data(run: Path) -> Path:
    return Run(run).config().data


def test_an_interrupted_prediction_is_never_scored_as_a_whole_one(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions of other windows stood there before; after the kill some are new and none is old."""
    real, written = module.write_label, []

    def write(path: Path, *more: object, **named: object) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        real(path, *more, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_label", write)
        with pytest.raises(KeyboardInterrupt):
            semiseg.predict(run, overlap=0.0, accelerator="cpu")
    assert written
    with pytest.raises(InputError, match="no prediction for"):
        semiseg.evaluate(run)


def test_two_predictions_do_not_share_a_folder(run: Path) -> None:
    with locked(run / "predictions"), pytest.raises(InputError, match=r"process \d+ is working in this folder"):
        semiseg.predict(run, accelerator="cpu")


def test_a_scan_is_never_overwritten_by_its_labels(run: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    shutil.copy(_data(run) / "imagesTr" / "case_000_0000.nii.gz", scans / "new.nii.gz")
    before = (scans / "new.nii.gz").read_bytes()
    with pytest.raises(InputError, match=r"scans: holds the scans"):
        semiseg.predict(run, scans, scans, accelerator="cpu")
    with pytest.raises(InputError, match=r"new\.nii\.gz: is one of the scans"):
        semiseg.predict(run, scans / "new.nii.gz", scans, accelerator="cpu")
    assert (scans / "new.nii.gz").read_bytes() == before


def test_a_scan_that_vanishes_is_told(run: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    shutil.copytree(_data(run) / "imagesTr", scans)
    gone = scans / "case_003_0000.nii.gz"
    with pytest.raises(InputError, match=r"case_003_0000\.nii\.gz"):
        semiseg.predict(run, scans, tmp_path / "out", accelerator="cpu", done=lambda case: gone.unlink(missing_ok=True))
    assert (tmp_path / "out" / "case_000.nii.gz").is_file()


@pytest.mark.parametrize("side", ["prediction", "label"])
def test_a_file_that_vanishes_before_it_is_scored_is_told(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    labels = shutil.copytree(_data(run) / "labelsTr", tmp_path / "labels")
    for path in labels.iterdir():
        if not (run / "predictions" / path.name).is_file():
            path.unlink()
    gone = next((labels if side == "label" else run / "predictions").glob("*.nii.gz"))
    real = evaluate._check_grids

    def check(pairs: list[object]) -> int:
        found = real(pairs)  # type: ignore[arg-type]
        gone.unlink()
        return found

    monkeypatch.setattr(evaluate, "_check_grids", check)
    with pytest.raises(InputError, match=gone.name):
        semiseg.evaluate(run / "predictions", labels)
    assert not (run / "predictions" / "scores.json").exists()


def test_a_gpu_that_is_not_there_is_not_replaced_in_silence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="accelerator gpu: this machine has none"):
        semiseg.predict(run, accelerator="gpu")


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")


@pytest.mark.parametrize(
    ("name", "error", "where"),
    [
        ("sliding_labels", FULL, "a scan of "),
        ("preprocess", MemoryError("Unable to allocate 9 GiB"), "case_"),
        ("restore_label", MemoryError("Unable to allocate 9 GiB"), "case_"),
    ],
)
def test_memory_that_runs_out_anywhere_is_told_in_a_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, where: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(module, name, fail)
    with pytest.raises(InputError, match=rf"^{where}.*: memory ran out \(.*\): .*--accelerator cpu") as caught:
        semiseg.predict(run, accelerator="cpu", overwrite=True)
    assert "\n" not in str(caught.value)
