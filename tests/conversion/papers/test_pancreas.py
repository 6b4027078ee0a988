"""NIH Pancreas-CT: DICOM with NIfTI labels, both preprocessing lines, and the files that are passed around."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import semiseg
from downloads import abdomen, pancreas_download, pancreas_h5, save_nifti
from semiseg.conversion.papers.official import official_lists
from semiseg.conversion.papers.pancreas import coranet_line, mcnet_line, turned
from semiseg.conversion.papers.resampling import by_affine, by_bspline
from semiseg.errors import InputError
from semiseg.scans.readers import read_image, read_label

NUMBERS = (57, 18, 62, 32, 50)
"""The first three of MC-Net's training list, another one of it, and its first test case."""


def test_published_lists() -> None:
    mcnet, coranet = (official_lists("pancreas")[line] for line in ("mcnet", "coranet"))
    assert (len(mcnet["train"]), len(mcnet["test"])) == (62, 20)
    assert sorted(mcnet["train"] + mcnet["test"]) == list(range(1, 83))
    assert mcnet["train"][:12] == [57, 18, 62, 31, 20, 17, 32, 79, 61, 64, 70, 19]
    assert coranet["train"] + coranet["test"] == [n for n in range(1, 83) if n not in (25, 70)]
    assert coranet["test"][0] == 64


def test_download_by_mcnet(tmp_path: Path) -> None:
    source = pancreas_download(tmp_path / "src", NUMBERS)
    done = semiseg.import_dataset("pancreas", source, tmp_path / "data", workers=1)
    assert done.cases == tuple(f"image{number:04d}" for number in sorted(NUMBERS))
    assert any("oracle crop" in note for note in done.notes)
    semiseg.check(done.root).raise_if_errors()
    assert len(semiseg.prepare(done.root, workers=1).cases) == len(NUMBERS)
    assert done.splits["l6"].labelled == ("image0018", "image0057", "image0062")
    assert done.splits["l6"].test == ("image0050",)
    for number in NUMBERS:
        image = read_image([done.root / "imagesTr" / f"image{number:04d}_0000.nii.gz"])
        label = read_label(done.root / "labelsTr" / f"image{number:04d}.nii.gz")
        assert image.spacing == pytest.approx((1, 1, 1))
        assert image.array.shape[1:] == tuple(int(n * mm) for n, mm in zip((44, 40, 16), (0.9, 0.9, 2.0), strict=True))
        assert image.array.mean() == pytest.approx(0, abs=1e-4)
        assert image.array.std() == pytest.approx(1, abs=1e-4)
        # The organ is brighter than the body by more than its noise: a label that was not turned would not lie on it.
        inside = image.array[0][label.array > 0]
        body = image.array[0][(image.array[0] > image.array.min() + 0.1) & (label.array == 0)]
        assert np.median(inside) > np.percentile(body, 75)


def test_place_in_space_survives(tmp_path: Path) -> None:
    source = pancreas_download(tmp_path / "src", [57])
    root = semiseg.import_dataset("pancreas", source, tmp_path / "data").root
    label = read_label(root / "labelsTr" / "image0057.nii.gz")
    mm = label.affine @ [*np.argwhere(label.array).mean(axis=0), 1]
    wanted = np.argwhere(abdomen(57)[1]).mean(axis=0) * (0.9, 0.9, 2.0) * (-1, -1, 1)
    np.testing.assert_allclose(mm[:3], wanted, atol=0.8)


def test_download_by_coranet(tmp_path: Path) -> None:
    source = pancreas_download(tmp_path / "src", (1, 2, 64))
    done = semiseg.import_dataset("pancreas", source, tmp_path / "data", options={"line": "coranet"}, workers=1)
    semiseg.check(done.root).raise_if_errors()
    assert done.splits["l6"].labelled == ("image0001", "image0002")
    assert done.splits["l6"].test == ("image0064",)
    image = read_image([done.root / "imagesTr" / "image0001_0000.nii.gz"])
    assert image.array.shape[1:] == (96, 96, 96)
    assert image.array.min() == 0
    assert image.array.max() == 1


def test_zoom_by_one_component_changes_the_grid() -> None:
    image, label = abdomen(0)
    affine = np.diag([0.5, 0.5, 2.0, 1.0])
    each = coranet_line(image, label, affine, (0.5, 0.5, 2.0), crop=False)
    last = coranet_line(image, label, affine, (2.0, 2.0, 2.0))
    np.testing.assert_allclose(np.diag(each.affine)[:3], (1, 1, 1))
    # The script believes in cubes of 2 mm; the affine keeps the millimetres that there are.
    np.testing.assert_allclose(np.diag(last.affine)[:3], (0.25, 0.25, 1))
    assert last.label is not None
    assert last.label.sum() == pytest.approx(label.sum() * 8, rel=0.1)


def test_uncropped() -> None:
    image, label = abdomen(3, (150, 140, 12))
    whole = mcnet_line(image, label, np.eye(4), crop=False)
    assert whole.image.shape == (1, 150, 140, 12)
    cropped = mcnet_line(image, label, np.eye(4))
    assert cropped.image.shape[1] < 150
    assert cropped.image.shape[3] == 12
    assert cropped.label is not None
    assert cropped.label.sum() == label.sum()


@pytest.mark.parametrize("line", ["mcnet", "coranet"])
def test_preprocessed_files(tmp_path: Path, line: str) -> None:
    numbers = NUMBERS if line == "mcnet" else (1, 2, 64)
    source = pancreas_h5(tmp_path / "src", numbers, line)
    done = semiseg.import_dataset("pancreas", source, tmp_path / "data", options={"line": line}, workers=1)
    assert any("1 mm" in note for note in done.notes)
    semiseg.check(done.root).raise_if_errors()
    other = {"mcnet": "coranet", "coranet": "mcnet"}[line]
    with pytest.raises(InputError, match=f"set line={line}"):
        semiseg.import_dataset("pancreas", source, tmp_path / "other", options={"line": other})


def test_nifti_scans(tmp_path: Path) -> None:
    for number in (1, 57):
        image, label = abdomen(number)
        affine = np.diag([0.9, 0.9, 2.0, 1.0])
        save_nifti(tmp_path / "src" / "images" / f"image{number:04d}.nii.gz", image, affine)
        save_nifti(tmp_path / "src" / "labels" / f"label{number:04d}.nii.gz", label, affine)
    done = semiseg.import_dataset("pancreas", tmp_path / "src", tmp_path / "data", workers=1)
    assert done.layout == "NIfTI"
    semiseg.check(done.root).raise_if_errors()


def test_labels_as_stored_are_not_turned(tmp_path: Path) -> None:
    source = pancreas_download(tmp_path / "src", [57])
    sums = []
    for axes in ("affine", "stored"):
        root = semiseg.import_dataset("pancreas", source, tmp_path / axes, options={"label_axes": axes}).root
        label = read_label(root / "labelsTr" / "image0057.nii.gz").array
        sums.append(np.argwhere(label).mean(axis=0)[1] / label.shape[1])
    assert sums[0] == pytest.approx(1 - sums[1], abs=0.05)
    assert abs(sums[0] - 0.5) > 0.03


def test_turned_permutes_and_flips() -> None:
    label = np.arange(24).reshape(2, 3, 4)
    own = np.diag([1.0, 1.0, 1.0, 1.0])
    wanted = np.array([[0, -1.0, 0, 0], [1, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    # Wanted axis 0 runs to anterior (own axis 1), wanted axis 1 to left (own axis 0, reversed).
    np.testing.assert_array_equal(turned(label, own, wanted), label.transpose(1, 0, 2)[:, ::-1])


def test_resampling_keeps_a_ramp() -> None:
    ramp = np.broadcast_to(np.arange(30.0)[:, None, None], (30, 8, 8)).astype(np.float32)
    for resample in (by_bspline, by_affine):
        found = resample(ramp, (1.6, 1.0, 1.0), label=False)
        assert found.shape == (48, 8, 8)
        np.testing.assert_allclose(found[5:40, 4, 4], np.arange(5, 40) / 1.6, atol=0.01)
        mask = resample(ramp > 10, (1.6, 1.0, 1.0), label=True)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(np.unique(mask), [0, 1])
    assert by_bspline(ramp, (0.99, 1, 1), label=False).shape[0] == 29
    assert by_affine(ramp, (0.99, 1, 1), label=False).shape[0] == 30


@pytest.mark.parametrize("spacing", [(0.9, 0.78, 2.0), (1.6, 1.0, 2.5), (0.5, 3.0, 0.7)])
def test_bsplines_are_those_of_simpleitk(spacing: tuple[float, float, float]) -> None:
    image, label = abdomen(5, (31, 24, 13))
    for values, interpolator in ((image.astype(np.float32), sitk.sitkBSpline), (label, sitk.sitkNearestNeighbor)):
        source = sitk.GetImageFromArray(values.transpose(2, 1, 0))
        source.SetSpacing(spacing)
        resampler = sitk.ResampleImageFilter()
        resampler.SetSize([int(side * mm) for side, mm in zip(values.shape, spacing, strict=True)])
        resampler.SetOutputSpacing((1.0, 1.0, 1.0))
        resampler.SetInterpolator(interpolator)
        wanted = sitk.GetArrayFromImage(resampler.Execute(source)).transpose(2, 1, 0)
        found = by_bspline(values, spacing, label=interpolator == sitk.sitkNearestNeighbor)
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, atol=0.02)
        keep = (slice(2, 9), slice(0, 5), slice(3, None))
        part = by_bspline(values, spacing, label=interpolator == sitk.sitkNearestNeighbor, keep=keep)
        np.testing.assert_array_equal(part, found[keep])


def test_wrong_files(tmp_path: Path) -> None:
    source = pancreas_download(tmp_path / "src", (57, 18))
    labels = source / "TCIA_pancreas_labels-02-05-2017"
    (labels / "label0057.nii.gz").unlink()
    (labels / "label0018.nii.gz").rename(labels / "label0019.nii.gz")
    with pytest.raises(InputError) as error:
        semiseg.import_dataset("pancreas", source, tmp_path / "data")
    assert len(error.value.problems) == 3
    for number in (57, 18, 19):
        assert any(f"image{number:04d}" in problem for problem in error.value.problems)


def test_a_label_of_another_scan(tmp_path: Path) -> None:
    source = pancreas_download(tmp_path / "src", [57])
    name = source / "TCIA_pancreas_labels-02-05-2017" / "label0057.nii.gz"
    save_nifti(name, np.zeros((9, 9, 9), np.uint8), np.eye(4))
    with pytest.raises(InputError, match=r"expected shape \[44, 40, 16\]"):
        semiseg.import_dataset("pancreas", source, tmp_path / "data")
    save_nifti(name, np.zeros((44, 40, 16), np.uint8), np.eye(4))
    with pytest.raises(InputError, match="expected a pancreas"):
        semiseg.import_dataset("pancreas", source, tmp_path / "data")


def test_two_series_of_one_patient(tmp_path: Path) -> None:
    source = pancreas_download(tmp_path / "src", [57])
    study = next(source.rglob("Pancreas-29663"))
    (study.parent / "Scout").mkdir()
    next(study.iterdir()).rename(study.parent / "Scout" / "1-001.dcm")
    with pytest.raises(InputError, match="expected one series of image0057"):
        semiseg.import_dataset("pancreas", source, tmp_path / "data")
