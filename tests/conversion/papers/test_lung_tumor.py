"""Lung tumours: Task06 of the Decathlon through check and prepare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import semiseg
from downloads import abdomen, lung_download, save_nifti
from semiseg.conversion.papers.base import importer
from semiseg.conversion.papers.lung_tumor import LungOptions, lefed_scan
from semiseg.errors import InputError
from semiseg.scans.readers import read_image

NUMBERS = (1, 3, 4, 6, 9)


def test_download(tmp_path: Path) -> None:
    source = lung_download(tmp_path / "src", NUMBERS)
    done = semiseg.import_dataset("lung_tumor", source, tmp_path / "data", workers=1)
    assert done.cases == tuple(f"lung_{number:03d}" for number in NUMBERS)
    assert any("not published" in note for note in done.notes)
    semiseg.check(done.root).raise_if_errors()
    assert len(semiseg.prepare(done.root, workers=1).cases) == len(NUMBERS)
    image = read_image([done.root / "imagesTr" / "lung_001_0000.nii.gz"])
    assert image.spacing == pytest.approx((1, 1, 1))
    assert image.array.mean() == pytest.approx(0, abs=1e-4)
    assert len(done.splits["all"].test) == 1


def test_crops() -> None:
    image, label = abdomen(2, (150, 40, 160))
    label[:] = 0
    label[70:74, 20:24, 70:74] = 2
    label[80, 20, 70] = 1
    shapes = {crop: lefed_scan(image, label, np.eye(4), crop).image.shape[1:] for crop in ("all", "in_plane", "none")}
    # One box around both fragments. Axis 0: from 70 to 80, (96 - 10) // 2 + 25 = 68 before and after, the last voxel
    # excluded; axis 2: from 70 to 73, 46 + 25 = 71 before and after, cut off at the scan's start.
    assert shapes == {"all": (146, 40, 144), "in_plane": (146, 40, 160), "none": (150, 40, 160)}


def test_a_tumour_that_resampling_loses_leaves_the_scan_whole() -> None:
    image, label = abdomen(2)
    label[:] = 0
    label[1, 1, 1] = 1
    found = lefed_scan(image, label, np.diag([0.4, 0.4, 0.4, 1.0]))
    assert found.label is not None
    assert not found.label.any()
    assert found.image.shape == (1, 17, 16, 6)


def test_lists_of_all_63(tmp_path: Path) -> None:
    chosen = importer("lung_tumor")
    cases = [f"lung_{number:03d}" for number in range(1, 64)]
    splits = chosen.splits(cases, LungOptions())
    assert [len(splits["l10"].roles[role]) for role in ("labelled", "unlabelled", "test")] == [10, 40, 13]
    assert [len(splits["l15"].roles[role]) for role in ("labelled", "unlabelled", "test")] == [15, 35, 13]
    assert set(splits["l10"].labelled) < set(splits["l15"].labelled)
    assert splits == chosen.splits(cases[::-1], LungOptions())
    assert splits["l10"].test != chosen.splits(cases, LungOptions(seed=1))["l10"].test


def test_wrong_files(tmp_path: Path) -> None:
    source = lung_download(tmp_path / "src", NUMBERS)
    (source / "Task06_Lung" / "labelsTr" / "lung_003.nii.gz").unlink()
    (source / "Task06_Lung" / "imagesTr" / "lung_004.nii.gz").unlink()
    with pytest.raises(InputError) as error:
        semiseg.import_dataset("lung_tumor", source, tmp_path / "data")
    assert len(error.value.problems) == 2
    assert "labelsTr/lung_003.nii.gz" in str(error.value)
    assert "imagesTr/lung_004.nii.gz" in str(error.value)


def test_no_tumour(tmp_path: Path) -> None:
    source = lung_download(tmp_path / "src", NUMBERS)
    for name, label in (("lung_001", np.zeros((44, 40, 16))), ("lung_009", np.ones((3, 3, 3)))):
        save_nifti(source / "Task06_Lung" / "labelsTr" / f"{name}.nii.gz", label.astype(np.uint8), np.eye(4))
    with pytest.raises(InputError) as error:
        semiseg.import_dataset("lung_tumor", source, tmp_path / "data", workers=1)
    assert [word in problem for problem, word in zip(error.value.problems, ("a tumour", "shape"), strict=True)] == [
        True,
        True,
    ]
