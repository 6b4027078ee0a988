"""CT on another scale is told, while it is checked and when it is labelled; nothing else is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import semiseg
from semiseg.datasets.dataset import open_dataset
from semiseg.preparing.checks import check
from semiseg.preparing.plan import Plan
from semiseg.preparing.prepare import prepare
from semiseg.scans.ranges import look, odd, usual
from tiny import write_nifti

Change = Callable[[np.ndarray], np.ndarray]
OTHER: dict[str, Change] = {
    "hounsfield + 1024": lambda ct: ct + 1024,
    "0 to 1": lambda ct: np.clip((ct + 160) / 400, 0, 1),
    "0 to 255": lambda ct: np.rint(np.clip((ct + 160) / 400, 0, 1) * 255),
    "0 to 255 of all": lambda ct: np.rint(np.clip((ct + 1024) / 4095, 0, 1) * 255),
    "inverted": lambda ct: -ct,
    "tenfold": lambda ct: ct * 10,
}
SAME: dict[str, Change] = {
    "as it is": lambda ct: ct,
    "padded": lambda ct: _padded(ct, -3024),
    "padded far": lambda ct: _padded(ct, -32768),
    "contrast": lambda ct: ct + 40 * (ct > 60),
    "noise": lambda ct: ct + np.random.default_rng(0).normal(0, 25, ct.shape),
    "window of the body": lambda ct: np.clip(ct, -200, 300),
    "no air": lambda ct: ct[8:32, 10:30],
}


def _ct(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Hounsfield units of a body with fat, muscle and an organ, in air, and the organ."""
    rng = np.random.default_rng(seed)
    at = np.mgrid[:40, :40, :20] - np.array([20, 20, 10])[:, None, None, None]
    size = rng.uniform(0.9, 1.1)
    radius = (at[0] / (17 * size)) ** 2 + (at[1] / (15 * size)) ** 2
    organ = (at[0] - 4) ** 2 + at[1] ** 2 + at[2] ** 2 < 49
    ct = np.where(radius < 1, np.where(radius > 0.7, -100, 40), -1000) + 60 * organ
    return ct + 20 * gaussian_filter(rng.normal(size=ct.shape), 1) * 4, organ.astype(np.uint8)


def _padded(ct: np.ndarray, value: float) -> np.ndarray:
    corners = np.hypot(*(np.mgrid[: ct.shape[0], : ct.shape[1]] - 19.5)) > 20
    return np.where(corners[..., None], value, ct)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ct") / "data"
    for number in range(6):
        ct, organ = _ct(number)
        for folder in ("imagesTr", "labelsTr"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        write_nifti(root / "imagesTr" / f"c{number}_0000.nii.gz", np.rint(ct).astype(np.int16))
        write_nifti(root / "labelsTr" / f"c{number}.nii.gz", organ)
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def plan(dataset: Path) -> Plan:
    return prepare(open_dataset(dataset), workers=1).plan


@pytest.mark.parametrize("name", OTHER)
def test_a_scan_on_another_scale_is_told(plan: Plan, name: str) -> None:
    for seed in range(20, 25):
        words = plan.odd(0, look(OTHER[name](_ct(seed)[0]).astype(np.float32)))
        assert words.startswith("expected a foreground with a median from ")


@pytest.mark.parametrize("name", SAME)
def test_a_scan_on_the_same_scale_is_not(plan: Plan, name: str) -> None:
    for seed in range(20, 25):
        assert plan.odd(0, look(SAME[name](_ct(seed)[0]).astype(np.float32))) == ""


def test_check_names_the_scan_on_another_scale_and_no_other(dataset: Path, tmp_path: Path) -> None:
    assert check(dataset).warnings == ()
    root = shutil.copytree(dataset, tmp_path / "data", ignore=shutil.ignore_patterns("prepared"))
    path = root / "imagesTr" / "c3_0000.nii.gz"
    write_nifti(path, np.asarray(nib.load(path).dataobj) + np.int16(1024))
    (warning,) = check(root).warnings
    assert warning.startswith(f"{path}: expected a foreground with a median")
    assert "not on the scale of the other scans" in warning


def test_prediction_tells_it_in_one_line_and_labels_the_scan(dataset: Path, plan: Plan, tmp_path: Path) -> None:
    run = semiseg.train(
        dataset,
        tmp_path / "run",
        method="supervised",
        steps=1,
        accelerator="cpu",
        network={"options": {"filters": [4, 8]}},
        batch={"patch": [16, 16, 16]},
    ).path
    (tmp_path / "scans").mkdir()
    ct = _ct(30)[0]
    write_nifti(tmp_path / "scans" / "hu.nii.gz", np.rint(ct).astype(np.int16))
    write_nifti(tmp_path / "scans" / "shifted.nii.gz", np.rint(ct + 1024).astype(np.uint16))
    said: list[str] = []
    written = semiseg.predict(run, tmp_path / "scans", tmp_path / "out", accelerator="cpu", say=said.append)
    (line,) = said
    assert line.startswith("warning: shifted: CT: expected a foreground with a median from ")
    assert all(path.is_file() for path in written.values())


def test_a_plan_is_not_another_one_for_what_is_usual(plan: Plan) -> None:
    without = plan.model_copy(update={"usual": ()})
    assert (without.digest, without.store_digest) == (plan.digest, plan.store_digest)
    assert not plan.edited
    assert without.odd(0, look(np.ones((4, 4, 4), np.float32))) == ""


def test_scans_that_are_scaled_one_by_one_are_never_told(plan: Plan) -> None:
    scaled = plan.normalisation[0].model_validate({"scheme": "zscore"})
    other = plan.model_copy(update={"normalisation": (scaled,)})
    assert other.odd(0, look(OTHER["0 to 1"](_ct(20)[0]).astype(np.float32))) == ""


@pytest.mark.parametrize("name", ["la", "acdc", "hippocampus"])
def test_real_scans_are_not_told(real_data: Path, name: str) -> None:
    assert not [line for line in check(real_data / name).warnings if "on the scale" in line or "orientation" in line]


def test_too_few_scans_and_constants_tell_nothing() -> None:
    seen = look(np.arange(8.0).reshape(2, 2, 2))
    assert usual([seen, seen]) is None
    assert usual([look(np.ones((2, 2, 2)))] * 5) is None
    others = usual([seen] * 3)
    assert others is not None
    assert not odd(seen, others)
