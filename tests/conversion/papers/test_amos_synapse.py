"""AMOS and Synapse from trees like their downloads and from npy files, through check and prepare."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

import semiseg
from downloads_organs import abdomen_npy, amos_download, organs, synapse_download
from semiseg.conversion.papers import abdomen
from semiseg.conversion.papers.base import importer
from semiseg.conversion.papers.official import official_lists
from semiseg.datasets.dataset import open_dataset
from semiseg.datasets.splits import load_split
from semiseg.errors import InputError
from semiseg.scans.readers import read_image, read_label

SMALL = (16, 16, 8)
TRAINING = ("amos_0017", "amos_0077", "amos_0042", "amos_0507")
VALIDATION, TEST = "amos_0027", "amos_0008"
SCANS = ("0021", "0023", "0003", "0035", "0008")
"""Two of synapse_b's 20 percent list, one other training scan, one for validation and one for the test."""


@pytest.fixture(autouse=True)
def _small_grid(monkeypatch):
    monkeypatch.setattr(abdomen, "STATIC_GRID", SMALL)


def expected_static(number: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    image, label = organs(number, classes)
    return abdomen.scale_window(abdomen.resize_image(image, SMALL)), abdomen.resize_label(label, SMALL)


@pytest.mark.parametrize("layout", ["download", "npy files of DHC"])
def test_amos_from_source_to_prepared_store(tmp_path, layout):
    cases = (*TRAINING, VALIDATION, TEST)
    download = layout == "download"
    source = (
        amos_download(tmp_path / "source", (*TRAINING, VALIDATION), (TEST,))
        if download
        else abdomen_npy(tmp_path / "source", cases, 16)
    )
    data = tmp_path / "data"
    done = semiseg.import_dataset("amos", source, data, workers=1)
    assert (done.layout, done.cases) == (layout, tuple(sorted(cases)))
    assert any("1 scan(s) of imagesTs" in note for note in done.notes) == download
    assert semiseg.check(data).errors == ()
    store = semiseg.prepare(data, workers=1)
    assert store.plan.class_names == abdomen.AMOS_CLASSES

    dataset = open_dataset(data)
    for number, case in enumerate(cases):
        image, label = expected_static(number, 16)
        volume = read_image(dataset.cases[case].images)
        np.testing.assert_array_equal(volume.array[0], image)
        np.testing.assert_array_equal(read_label(dataset.cases[case].label).array, label)
        np.testing.assert_array_equal(volume.affine, np.eye(4))
    split = load_split(data / "splits" / "l4.json", dataset)
    assert split.labelled == ("amos_0017", "amos_0077")
    assert split.unlabelled == ("amos_0042", "amos_0507")
    assert (split.validation, split.test) == ((VALIDATION,), (TEST,))
    assert any("published lists are not in the source" in note for note in done.notes)


def test_amos_without_mri_and_as_it_is(tmp_path):
    source, data = amos_download(tmp_path / "source", (*TRAINING, VALIDATION), (TEST,)), tmp_path / "data"
    options = {"modality": "ct", "grid": "native", "intensities": "raw"}
    done = semiseg.import_dataset("amos", source, data, options=options, workers=1)
    assert "amos_0507" not in done.cases
    dataset = open_dataset(data)
    assert dataset.channels == ("CT",)
    image, label = organs(0, 16)
    volume = read_image(dataset.cases["amos_0017"].images)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array[0], image)
    np.testing.assert_array_equal(read_label(dataset.cases["amos_0017"].label).array, label)
    original = nib.load(source / "amos22" / "imagesTr" / "amos_0017.nii.gz").affine
    np.testing.assert_allclose(volume.affine, original, atol=1e-5)
    assert semiseg.prepare(data, workers=1).plan.normalisation[0].scheme == "ct"


@pytest.mark.parametrize("layout", ["download", "sheet", "npy files of DHC"])
def test_synapse_from_source_to_prepared_store(tmp_path, layout):
    makers = {
        "download": lambda: synapse_download(tmp_path / "source", SCANS),
        "sheet": lambda: synapse_download(tmp_path / "source", SCANS, ("imagesTr", "labelsTr")),
        "npy files of DHC": lambda: abdomen_npy(tmp_path / "source", SCANS, 14),
    }
    data = tmp_path / "data"
    done = semiseg.import_dataset("synapse", makers[layout](), data, workers=1)
    assert done.cases == tuple(sorted(SCANS))
    assert any("voxels of 1 mm" in note for note in done.notes)
    assert semiseg.check(data).errors == ()
    assert semiseg.prepare(data, workers=1).plan.class_names == abdomen.SYNAPSE_CLASSES
    dataset = open_dataset(data)
    for number, case in enumerate(SCANS):
        image, label = expected_static(number, 14)
        np.testing.assert_array_equal(read_image(dataset.cases[case].images).array[0], image)
        np.testing.assert_array_equal(read_label(dataset.cases[case].label).array, label)
    split = load_split(data / "splits" / "l4.json", dataset)
    assert split.labelled == ("0021", "0023")
    assert (split.unlabelled, split.validation, split.test) == (("0003",), ("0035",), ("0008",))


def test_synapse_halved_after_clipping(tmp_path):
    source, data = synapse_download(tmp_path / "source", SCANS), tmp_path / "data"
    options = {"grid": "halved", "spacing": "scan", "lists": "synapse_a"}
    done = semiseg.import_dataset("synapse", source, data, options=options, workers=1)
    case = open_dataset(data).cases["0021"]
    image, label = organs(0, 14)
    volume = read_image(case.images)
    half = abdomen.scale_window(image).reshape(10, 2, 12, 2, 10).mean((1, 3))
    np.testing.assert_allclose(volume.array[0], half, atol=1e-6)
    np.testing.assert_array_equal(read_label(case.label).array, label[::2, ::2])
    assert volume.spacing == pytest.approx((1.6, 1.6, 5.0))
    np.testing.assert_allclose(volume.affine[:3, 3], [160 - 0.4, -180 + 0.4, -700], atol=1e-4)
    assert "l2" not in done.splits
    assert not any("voxels of 1 mm" in note for note in done.notes)
    assert done.splits["l4"].labelled == ("0021",)
    assert done.splits["l4"].validation == ("0023",)


def test_the_field_of_view_stays_where_it_is():
    affine = np.diag([-0.7, 0.7, 5.0, 1.0])
    affine[:3, 3] = (10, -20, 30)
    moved = abdomen.regrid_affine(affine, (512, 512, 90), (160, 160, 80))
    for old, new in (((-0.5,) * 3, (-0.5,) * 3), ((511.5, 511.5, 89.5), (159.5, 159.5, 79.5))):
        np.testing.assert_allclose(affine @ [*old, 1], moved @ [*new, 1])


def test_published_lists():
    lists = official_lists("amos")
    sizes = {name: len(found) for name, found in lists.items() if isinstance(found, list)}
    assert sizes == {
        "train": 216,
        "validation": 24,
        "test": 120,
        "labelled_2_percent": 4,
        "labelled_5_percent": 10,
        "labelled_10_percent": 21,
    }
    for name in ("amos", "synapse"):
        chosen = importer(name)
        variants = [lists] if name == "amos" else list(official_lists("synapse").values())
        for found in variants:
            assert not {*found["train"]} & {*found["validation"], *found["test"]}
            assert all({*ids} <= {*found["train"]} for key, ids in found.items() if key.startswith("labelled"))
        splits = chosen.splits([], chosen.options())
        for split in splits.values():
            listed = [case for cases in split.roles.values() for case in cases]
            assert len(listed) == len({*listed})
    assert {name: len(split.labelled) for name, split in splits.items() if "honest" not in name} == {
        "l2": 2,
        "l4": 4,
        "l8": 8,
        "all": 20,
    }
    mri = [case for case in lists["train"] if int(case[-4:]) > 500]
    assert len(mri) == 34


def test_an_image_without_its_label(tmp_path):
    source = synapse_download(tmp_path / "source", SCANS)
    (source / "RawData" / "Training" / "label" / "label0003.nii.gz").unlink()
    with pytest.raises(InputError, match=r"expected label0003\.nii\.gz"):
        semiseg.import_dataset("synapse", source, tmp_path / "data", workers=1)
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="found an empty folder"):
        semiseg.import_dataset("amos", tmp_path / "other", tmp_path / "data", workers=1)
