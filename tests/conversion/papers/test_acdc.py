"""ACDC from its download and from its HDF5 copy, through check and prepare."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import semiseg
from downloads_organs import acdc_download, acdc_h5, heart, write_h5
from semiseg.cli import app
from semiseg.conversion.papers.acdc import BUDGETS, unit_range
from semiseg.conversion.papers.base import importer
from semiseg.conversion.papers.official import official_lists
from semiseg.datasets.dataset import open_dataset
from semiseg.datasets.splits import load_split
from semiseg.errors import InputError
from semiseg.scans.readers import read_image, read_label

SPACING = (1.5625, 1.5625, 10.0)


@pytest.mark.parametrize("layout", ["download", "HDF5"])
def test_from_source_to_prepared_store(tmp_path, layout):
    source = (acdc_download if layout == "download" else acdc_h5)(tmp_path / "source")
    done = semiseg.import_dataset("acdc", source, tmp_path / "data", workers=1)
    assert done.layout == layout
    assert len(done.cases) == 8
    assert semiseg.check(tmp_path / "data").errors == ()
    store = semiseg.prepare(tmp_path / "data", workers=1)
    assert store.plan.spatial_dims == 2
    assert store.plan.transpose == (0, 1, 2)

    dataset = open_dataset(tmp_path / "data")
    frame = "09" if layout == "download" else "02"
    case = dataset.cases[f"patient099_frame{frame}"]
    image, label = heart(9)
    assert case.patient == "patient099"
    np.testing.assert_array_equal(read_image(case.images).array[0], unit_range(image))
    np.testing.assert_array_equal(read_label(case.label).array, label)
    assert read_label(case.label).spacing == pytest.approx(SPACING if layout == "download" else (1, 1, 1))

    split = load_split(tmp_path / "data" / "splits" / "p1.json", dataset)
    assert split.labelled == ("patient099_frame01", f"patient099_frame{frame}")
    assert {name.split("_")[0] for name in split.unlabelled} == {"patient038"}
    assert {name.split("_")[0] for name in split.validation} == {"patient028"}
    assert {name.split("_")[0] for name in split.test} == {"patient011"}
    assert any("splits leave them out" in note for note in done.notes)


def test_published_lists():
    lists = official_lists("acdc")
    assert [len(lists[part]) for part in ("train", "validation", "test")] == [70, 10, 20]
    assert len({*lists["train"], *lists["validation"], *lists["test"]}) == 100
    assert lists["train"][:7] == [f"patient{number}" for number in ("099", "038", "050", "100", "058", "021", "049")]
    cases = [
        f"{patient}_frame{k:02d}" for part in ("train", "validation", "test") for patient in lists[part] for k in (1, 2)
    ]
    splits = importer("acdc").splits(cases, importer("acdc").options())
    for count in BUDGETS:
        split = splits[f"p{count}"]
        assert len(split.labelled) == 2 * count
        assert len(split.unlabelled) == 140 - 2 * count
        assert (len(split.validation), len(split.test)) == (20, 40)
    assert len(splits["all"].labelled) == 140


def test_a_slice_that_is_missing_and_slices_that_do_not_fit(tmp_path):
    source = acdc_h5(tmp_path / "source")
    slices = source / "data" / "slices"
    (slices / "patient099_frame01_slice_2.h5").unlink()
    with pytest.raises(InputError, match=r"expected patient099_frame01_slice_2\.h5"):
        semiseg.import_dataset("acdc", source, tmp_path / "data", workers=1)
    write_h5(slices / "patient099_frame01_slice_2.h5", np.zeros((48, 31), np.float32), np.zeros((48, 31), np.uint8))
    with pytest.raises(InputError, match="of one shape, came"):
        semiseg.import_dataset("acdc", source, tmp_path / "data", workers=1)
    assert not (tmp_path / "data" / "dataset.json").exists()
    (slices / "patient099_frame01_slice_2.h5").write_bytes(b"no HDF5")
    with pytest.raises(InputError, match="HDF5"):
        semiseg.import_dataset("acdc", source, tmp_path / "data", workers=1)


def test_a_frame_without_its_label_or_its_second_frame(tmp_path):
    source = acdc_download(tmp_path / "source")
    folder = source / "database" / "training"
    (folder / "patient099" / "patient099_frame09_gt.nii.gz").unlink()
    with pytest.raises(InputError, match=r"expected patient099_frame09_gt\.nii\.gz"):
        semiseg.import_dataset("acdc", source, tmp_path / "data", workers=1)
    (folder / "patient099" / "patient099_frame09.nii.gz").unlink()
    done = semiseg.import_dataset("acdc", source, tmp_path / "data", workers=1)
    assert any("patient099" in note and "fewer than the 2" in note for note in done.notes)


@pytest.mark.parametrize("part", [".", "volumes", "slices"])
def test_the_copy_with_real_scans(real_data, tmp_path, part):
    source = real_data / "formats" / "acdc_h5"
    if not source.is_dir():
        pytest.skip(f"no {source}")
    result = CliRunner().invoke(app, ["import", "acdc", str(source / part), "-o", str(tmp_path / "data")])
    assert result.exit_code == 0, result.output
    assert "1 cases" in result.output
    (path,) = (source / "volumes").glob("*.h5")
    case = open_dataset(tmp_path / "data").cases[path.stem]
    with h5py.File(path) as file:
        np.testing.assert_array_equal(read_image(case.images).array[0], file["image"][()].T)
        np.testing.assert_array_equal(read_label(case.label).array, file["label"][()].T)
    assert semiseg.check(tmp_path / "data").errors == ()
    assert semiseg.prepare(tmp_path / "data", workers=1).plan.spatial_dims == 2
    assert json.loads((tmp_path / "data" / "patients.json").read_text()) == {path.stem: path.stem.split("_")[0]}


def test_scaling_takes_the_whole_volume():
    image = np.array([[[0, 10], [20, 40]]], np.int16)
    np.testing.assert_array_equal(unit_range(image), np.float32([[[0, 0.25], [0.5, 1]]]))
    np.testing.assert_array_equal(unit_range(np.full((2, 2, 1), 7, np.int16)), 0)
    assert unit_range(image).dtype == np.float32


def test_a_killed_import_goes_on(tmp_path):
    source = acdc_h5(tmp_path / "source")
    semiseg.import_dataset("acdc", source, tmp_path / "whole", workers=1)
    shutil.copytree(tmp_path / "whole", tmp_path / "data")
    for path in (tmp_path / "data").glob("*/patient0*_frame02*"):
        path.unlink()
    (tmp_path / "data" / "dataset.json").unlink()
    kept = tmp_path / "data" / "imagesTr" / "patient099_frame01_0000.nii.gz"
    before = kept.stat().st_mtime_ns
    semiseg.import_dataset("acdc", source, tmp_path / "data", workers=1)
    assert kept.stat().st_mtime_ns == before
    for path in (tmp_path / "whole").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "data" / path.relative_to(tmp_path / "whole")).read_bytes(), path
