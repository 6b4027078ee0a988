"""Inferior alveolar nerve: ToothFairy's arrays and HDF5 files through check and prepare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import semiseg
from downloads import abdomen, ian_download, ian_h5
from semiseg.conversion.papers.base import importer
from semiseg.conversion.papers.ian import IANOptions, canal, normalise
from semiseg.errors import InputError
from semiseg.scans.readers import read_image, read_label

DENSE = ("P1", "P4", "P12", "P30", "P31", "P101")


def test_download(tmp_path: Path) -> None:
    source = ian_download(tmp_path / "src", DENSE, ("P2", "P3"))
    done = semiseg.import_dataset("ian", source, tmp_path / "data", workers=1)
    assert set(done.cases) == set(DENSE)
    assert any("2 scan(s) without dense labels" in note for note in done.notes)
    assert any("0.3 mm" in note for note in done.notes)
    semiseg.check(done.root).raise_if_errors()
    assert len(semiseg.prepare(done.root, workers=1).cases) == len(DENSE)
    image, label = abdomen(0, (16, 40, 44))
    found = read_image([done.root / "imagesTr" / "P1_0000.nii.gz"])
    np.testing.assert_allclose(found.array[0], normalise(image, (0.5, 99.5)), atol=1e-6)
    np.testing.assert_array_equal(read_label(done.root / "labelsTr" / "P1.nii.gz").array, label)
    # The short axis comes first, as the paper gives its sizes, and the affine knows that it runs from feet to head.
    assert found.spacing == pytest.approx((0.3,) * 3)
    np.testing.assert_allclose(found.affine[:3, 0], (0, 0, 0.3))


def test_axes_and_clip_are_options(tmp_path: Path) -> None:
    source = ian_download(tmp_path / "src", DENSE[:1])
    options = {"axes": "xyz", "clip": [10, 90]}
    root = semiseg.import_dataset("ian", source, tmp_path / "data", options=options).root
    image = read_image([root / "imagesTr" / "P1_0000.nii.gz"])
    assert image.array.shape == (1, 44, 40, 16)
    np.testing.assert_allclose(image.affine, np.diag([0.3, 0.3, 0.3, 1]), atol=1e-7)
    array = abdomen(0, (16, 40, 44))[0]
    np.testing.assert_allclose(image.array[0], normalise(array, (10, 90)).transpose(2, 1, 0), atol=1e-6)
    with pytest.raises(InputError, match="expected two rising percentages"):
        semiseg.import_dataset("ian", source, tmp_path / "other", options={"clip": [90, 10]})


def test_normalise_and_canal() -> None:
    values = np.concatenate([np.zeros(10), np.arange(1000.0), np.full(10, 1e6)]).reshape(1, 1, -1)
    normal = normalise(values, (2, 98))
    assert normal.mean() == pytest.approx(0, abs=1e-5)
    assert normal.std() == pytest.approx(1, abs=1e-5)
    assert normal.max() < 2
    assert canal(np.array([-1, 0, 1, 255])).tolist() == [0, 0, 1, 1]


def test_copy_of_ducisc(tmp_path: Path) -> None:
    done = semiseg.import_dataset("ian", ian_h5(tmp_path / "src", DENSE), tmp_path / "data", workers=1)
    semiseg.check(done.root).raise_if_errors()
    label = read_label(done.root / "labelsTr" / "P1.nii.gz").array
    assert set(np.unique(label)) == {0, 1}
    image = read_image([done.root / "imagesTr" / "P1_0000.nii.gz"])
    np.testing.assert_allclose(image.array[0], abdomen(0, (16, 40, 44))[0] / np.float32(500), rtol=1e-6)


def test_lists_of_all_153() -> None:
    cases = [f"P{number}" for number in range(153)]
    splits = importer("ian").splits(cases, IANOptions())
    for name, count in (("l9", 9), ("l18", 18)):
        assert [len(splits[name].roles[role]) for role in ("labelled", "unlabelled", "test")] == [count, 90 - count, 20]
    assert len(splits["all"].labelled) == 90
    assert splits["l9"] != importer("ian").splits(cases, IANOptions(seed=1))["l9"]


def test_wrong_files(tmp_path: Path) -> None:
    source = ian_download(tmp_path / "src", DENSE)
    dataset = source / "ToothFairy_Dataset" / "Dataset"
    (dataset / "P1" / "data.npy").unlink()
    with pytest.raises(InputError, match=r"expected P1/data\.npy as well"):
        semiseg.import_dataset("ian", source, tmp_path / "data")
    np.save(dataset / "P1" / "data.npy", np.zeros((3, 3)))
    (dataset / "P4" / "data.npy").write_bytes((dataset / "P4" / "data.npy").read_bytes()[:300])
    np.save(dataset / "P12" / "data.npy", np.array([{"no": "numbers"}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError) as error:
        semiseg.import_dataset("ian", source, tmp_path / "data", workers=1)
    assert [case in problem for problem, case in zip(error.value.problems, ("P1/", "P12/", "P4/"), strict=True)] == [
        True
    ] * 3


def test_sparse_labels_alone(tmp_path: Path) -> None:
    source = ian_download(tmp_path / "src", (), ("P2", "P3"))
    with pytest.raises(InputError, match="expected dense labels"):
        semiseg.import_dataset("ian", source, tmp_path / "data")
