"""Left atrium: the challenge's download and the copy of UA-MT, through check and prepare."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import semiseg
from downloads import atrium, la_download, la_h5, save_nrrd
from semiseg.conversion.papers.base import Item
from semiseg.conversion.papers.la import DOWNLOAD, LAOptions, draw_margins
from semiseg.conversion.papers.official import official_lists
from semiseg.errors import InputError
from semiseg.scans.readers import read_image, read_label

LISTS = official_lists("la")
CASES = [*LISTS["train"][:5], *LISTS["test"][:2]]


def test_published_lists() -> None:
    assert (len(LISTS["train"]), len(LISTS["test"])) == (80, 20)
    assert LISTS["train"] == sorted(LISTS["train"])
    assert not set(LISTS["train"]) & set(LISTS["test"])
    assert LISTS["train"][3] == "1GU15S0GJ6PFNARO469W"
    assert LISTS["train"][15] == "5BHTH9RHH3PQT913I59W"


def test_download(tmp_path: Path) -> None:
    source = la_download(tmp_path / "src", CASES)
    done = semiseg.import_dataset("la", source, tmp_path / "data", workers=1)
    assert done.layout == "download"
    assert done.cases == tuple(sorted(CASES))
    semiseg.check(done.root).raise_if_errors()
    store = semiseg.prepare(done.root, workers=1)
    assert len(store.cases) == len(CASES)
    split = done.splits["l4"]
    assert split.labelled == tuple(sorted(LISTS["train"][:4]))
    assert split.unlabelled == (LISTS["train"][4],)
    assert split.test == tuple(sorted(LISTS["test"][:2]))
    assert done.splits["l4_honest"].validation == (LISTS["train"][3],)
    assert json.loads((done.root / "splits" / "l4.json").read_text())["labelled"] == list(split.labelled)
    assert "4 of 4 labelled, 1 of 76 unlabelled, 0 of 0 validation, 2 of 20 test" in split.note
    assert any("93 case(s) of the published lists are not in the source" in note for note in done.notes)


def test_crop_keeps_all_slices_and_the_place(tmp_path: Path) -> None:
    source = la_download(tmp_path / "src", CASES[:1])
    root = semiseg.import_dataset("la", source, tmp_path / "data").root
    whole, label = atrium(0)
    image = read_image([root / "imagesTr" / f"{CASES[0]}_0000.nii.gz"])
    found = read_label(root / "labelsTr" / f"{CASES[0]}.nii.gz")
    assert image.array.shape[3] == whole.shape[2]
    assert found.array.sum() == (label == 255).sum()
    assert image.spacing == pytest.approx((0.625,) * 3)
    # The same voxel lies at the same place as in the download: towards left and posterior, from the NRRD's origin.
    voxel, source_voxel = np.argwhere(found.array)[0], np.argwhere(label)[0]
    place = image.affine @ [*voxel, 1]
    np.testing.assert_allclose(place[:3], [-1, -1, 1] * (source_voxel * 0.625 + [-10.0, 5.0, 20.0]), atol=1e-4)
    normal = (whole - whole.mean()) / whole.std()
    assert image.array[0][tuple(voxel)] == pytest.approx(normal[tuple(source_voxel)], abs=1e-5)


def test_margins() -> None:
    draws = np.array([draw_margins(np.random.default_rng(seed)) for seed in range(400)])
    assert draws[:, :4].min() == 10
    assert draws[:, :4].max() == 19
    assert draws[:, 4:].min() == 5
    assert draws[:, 4:].max() == 9


def test_margins_follow_seed_and_case(tmp_path: Path) -> None:
    mask = np.zeros((170, 170, 3), bool)
    mask[80:90, 80:90] = True
    item = Item("A", (tmp_path / "a.nrrd",), tmp_path / "b.nrrd")
    save_nrrd(item.images[0], mask.astype(np.uint8), (0.625,) * 3)
    save_nrrd(item.label_file, (255 * mask).astype(np.uint8), (0.625,) * 3)

    def shape(case: str, seed: int) -> tuple[int, ...]:
        return DOWNLOAD.convert(replace(item, case=case), LAOptions(seed=seed)).image.shape

    assert shape("A", 0) == shape("A", 0)
    assert len({shape("A", seed) for seed in range(5)}) > 1
    assert len({shape(case, 0) for case in "ABCDE"}) > 1
    assert all(112 + 18 <= side <= 112 + 38 for side in shape("A", 0)[1:3])


def test_whole_scans_are_no_oracle(tmp_path: Path) -> None:
    source = la_download(tmp_path / "src", CASES[:1])
    done = semiseg.import_dataset("la", source, tmp_path / "data", options={"crop": "none"})
    assert not json.loads((done.root / "dataset.json").read_text())["imported"]["cropped_around_labels"]
    assert not any("oracle" in note for note in done.notes)
    with pytest.raises(InputError, match="cropped already"):
        semiseg.import_dataset("la", la_h5(tmp_path / "h5", CASES[:1]), tmp_path / "x", options={"crop": "none"})


def test_copy_of_uamt(tmp_path: Path) -> None:
    done = semiseg.import_dataset("la", la_h5(tmp_path / "src", CASES), tmp_path / "data", workers=1)
    assert any("0.625 mm" in note for note in done.notes)
    assert any("oracle crop" in note for note in done.notes)
    semiseg.check(done.root).raise_if_errors()
    assert len(semiseg.prepare(done.root, workers=1).cases) == len(CASES)


def test_real_files_round_trip(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "formats" / "la_h5"
    done = semiseg.import_dataset("la", source, tmp_path / "data")
    assert len(done.cases) == len(list(source.glob("*/mri_norm2.h5"))) > 0
    for case in done.cases:
        with h5py.File(source / case / "mri_norm2.h5") as file:
            image = read_image([done.root / "imagesTr" / f"{case}_0000.nii.gz"])
            np.testing.assert_array_equal(image.array[0], file["image"][()])
            np.testing.assert_array_equal(
                read_label(done.root / "labelsTr" / f"{case}.nii.gz").array, file["label"][()]
            )
        assert image.spacing == pytest.approx((0.625,) * 3)
    semiseg.check(done.root).raise_if_errors()
    written = {path: path.stat().st_mtime_ns for path in done.root.rglob("*.nii.gz")}
    semiseg.import_dataset("la", source, tmp_path / "data")
    assert written == {path: path.stat().st_mtime_ns for path in done.root.rglob("*.nii.gz")}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "laendo.nrrd").unlink(), ["laendo.nrrd", "found none"]),
        (lambda folder: (folder / "lgemri.nrrd").write_bytes(b"NRRD0004\n"), ["lgemri.nrrd", "damaged"]),
    ],
)
def test_wrong_files(tmp_path: Path, change, words) -> None:
    source = la_download(tmp_path / "src", CASES[:3])
    for case in CASES[:2]:
        change(source / "Training Set" / case)
    with pytest.raises(InputError) as error:
        semiseg.import_dataset("la", source, tmp_path / "data", workers=1)
    assert len(error.value.problems) == 2, error.value
    for problem, case in zip(error.value.problems, sorted(CASES[:2]), strict=True):
        assert case in problem
        assert all(word in problem for word in words), problem
    assert not (tmp_path / "data" / "dataset.json").exists()


def test_label_without_an_atrium(tmp_path: Path) -> None:
    source = la_download(tmp_path / "src", CASES[:1])
    save_nrrd(source / "Training Set" / CASES[0] / "laendo.nrrd", np.zeros((60, 56, 12), np.uint8), (0.625,) * 3)
    with pytest.raises(InputError, match=r"expected an atrium \(value 255\)"):
        semiseg.import_dataset("la", source, tmp_path / "data")
