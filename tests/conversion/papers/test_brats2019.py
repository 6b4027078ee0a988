"""BraTS 2019: the download and the HDF5 copy, through check and prepare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import semiseg
from downloads import brain, brats_download, save_h5, save_nifti
from semiseg.conversion.papers.brats2019 import clip_top, scale_by_brain, whole_tumour
from semiseg.conversion.papers.official import official_lists
from semiseg.errors import InputError
from semiseg.scans.readers import read_image, read_label

LISTS = official_lists("brats2019")
CASES = [*LISTS["train"][:2], LISTS["train"][30], LISTS["validation"][0], LISTS["test"][0]]


def test_published_lists() -> None:
    assert [len(LISTS[role]) for role in ("train", "validation", "test")] == [250, 25, 60]
    assert len({case for role in ("train", "validation", "test") for case in LISTS[role]}) == 335
    assert LISTS["train"][:2] == ["BraTS19_TCIA02_370_1", "BraTS19_CBICA_ASA_1"]


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_download(tmp_path: Path, ending: str) -> None:
    source = brats_download(tmp_path / "src", CASES, ending)
    done = semiseg.import_dataset("brats2019", source, tmp_path / "data", workers=1)
    assert done.cases == tuple(sorted(CASES))
    semiseg.check(done.root).raise_if_errors()
    assert len(semiseg.prepare(done.root, workers=1).cases) == len(CASES)
    split = done.splits["l25"]
    assert split.labelled == tuple(sorted(LISTS["train"][:2]))
    assert split.unlabelled == (LISTS["train"][30],)
    assert (split.validation, split.test) == ((LISTS["validation"][0],), (LISTS["test"][0],))
    assert "l25_honest" not in done.splits
    assert any("l25_honest" in note for note in done.notes)
    assert not any("oracle" in note for note in done.notes)


def test_slices_come_first_and_keep_their_place(tmp_path: Path) -> None:
    source = brats_download(tmp_path / "src", CASES[:1])
    root = semiseg.import_dataset("brats2019", source, tmp_path / "data").root
    flair, segmentation = brain(0)
    wanted, label, _ = whole_tumour(flair.transpose(2, 1, 0), segmentation.transpose(2, 1, 0))
    image = read_image([root / "imagesTr" / f"{CASES[0]}_0000.nii.gz"])
    found = read_label(root / "labelsTr" / f"{CASES[0]}.nii.gz")
    np.testing.assert_array_equal(image.array[0], wanted)
    np.testing.assert_array_equal(found.array, label)
    voxel, source_voxel = np.argwhere(found.array).mean(axis=0), np.argwhere(segmentation).mean(axis=0)
    np.testing.assert_allclose((image.affine @ [*voxel, 1])[:3], source_voxel * (-1, -1, 1) + (0, 239, 0), atol=1e-4)


def test_the_background_is_not_zero() -> None:
    flair, segmentation = brain(1)
    image, label, box = whole_tumour(flair, segmentation)
    inside = flair[box] > 0
    assert image[inside].mean() == pytest.approx(0, abs=1e-5)
    assert image[inside].std() == pytest.approx(1, abs=1e-5)
    assert (image[~inside] == image[~inside][0]).all()
    assert image[~inside][0] < -2
    assert set(np.unique(label)) == {0, 1}
    last = np.flatnonzero(flair.any(axis=(1, 2)))[-1]
    assert box[0].stop == last


def test_top_is_clipped_by_share_of_voxels() -> None:
    values = np.arange(1000, dtype=np.int16)
    assert clip_top(values).max() == 998
    assert clip_top(values, 0.5).max() == 499
    assert clip_top(values.astype(np.float32), 0.5).max() == pytest.approx(499.5, abs=2)
    np.testing.assert_array_equal(scale_by_brain(np.zeros((2, 2, 2), np.int16)), 0)


def test_copy_of_ssl4mis(tmp_path: Path) -> None:
    for seed, case in enumerate(CASES):
        flair, segmentation = brain(seed)
        image, label, _ = whole_tumour(flair.transpose(2, 1, 0), segmentation.transpose(2, 1, 0))
        save_h5(tmp_path / "src" / "data" / f"{case}.h5", image, label)
    done = semiseg.import_dataset("brats2019", tmp_path / "src", tmp_path / "data", workers=1)
    assert any("(slice, row, column)" in note for note in done.notes)
    semiseg.check(done.root).raise_if_errors()
    flair, segmentation = brain(0)
    wanted = whole_tumour(flair.transpose(2, 1, 0), segmentation.transpose(2, 1, 0))[0]
    image = read_image([done.root / "imagesTr" / f"{CASES[0]}_0000.nii.gz"])
    np.testing.assert_array_equal(image.array[0], wanted)
    assert image.spacing == (1, 1, 1)


def test_wrong_files(tmp_path: Path) -> None:
    source = brats_download(tmp_path / "src", CASES)
    folder = source / "MICCAI_BraTS_2019_Data_Training" / "LGG" / CASES[0]
    (folder / f"{CASES[0]}_seg.nii.gz").unlink()
    with pytest.raises(InputError, match=rf"expected {CASES[0]}_seg.nii.gz as well"):
        semiseg.import_dataset("brats2019", source, tmp_path / "data")
    save_nifti(folder / f"{CASES[0]}_seg.nii.gz", np.zeros((3, 3, 3), np.int16), np.eye(4))
    with pytest.raises(InputError, match=r"expected shape \[40, 36, 20\]"):
        semiseg.import_dataset("brats2019", source, tmp_path / "data", workers=1)


def test_a_scan_of_nothing(tmp_path: Path) -> None:
    source = brats_download(tmp_path / "src", CASES[:1])
    flair = next(source.rglob("*_flair.nii.gz"))
    save_nifti(flair, np.zeros((40, 36, 20), np.int16), np.eye(4))
    with pytest.raises(InputError, match="expected a brain"):
        semiseg.import_dataset("brats2019", source, tmp_path / "data")
