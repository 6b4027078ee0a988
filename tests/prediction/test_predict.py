"""Predictions lie where the scan lies, whatever its orientation, spacing and obliqueness."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import semiseg
from semiseg.errors import InputError
from tiny import tiny_dataset, write_nifti


def _trained(data: Path, output: Path, **settings: object) -> Path:
    return semiseg.train(
        data,
        output,
        prepared=output.parent / "prepared",
        method="supervised",
        accelerator="cpu",
        network={"options": {"filters": [4, 8]}},
        **settings,
    ).path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("predict")
    data = tiny_dataset(root / "data", cases=5, labelled=5)
    return _trained(
        data,
        root / "run",
        labelled=4,
        test=1,
        steps=60,
        batch={"patch": [16, 16, 16]},
        optimiser={"lr": 0.01},
    )


def _turned(path: Path, target: Path, axes: str, oblique: float) -> None:
    """The same scan stored along other axes, in a tilted scanner frame."""
    image = nib.load(path)
    start = nib.orientations.io_orientation(image.affine)
    turned = image.as_reoriented(nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(axes)))
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(oblique), -np.sin(oblique)], [np.sin(oblique), np.cos(oblique)]]
    nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), tilt @ turned.affine), target)


@pytest.mark.parametrize(("axes", "oblique"), [("RAS", 0.0), ("LPS", 0.2), ("SAL", 0.0), ("IRP", -0.3)])
def test_label_files_have_the_geometry_of_the_scan_and_find_the_object(
    run: Path, tmp_path: Path, axes: str, oblique: float
) -> None:
    data = run.parent / "data"
    (tmp_path / "in").mkdir()
    _turned(data / "imagesTr" / "case_000_0000.nii.gz", tmp_path / "in" / "scan_0000.nii.gz", axes, oblique)
    _turned(data / "labelsTr" / "case_000.nii.gz", tmp_path / "truth.nii.gz", axes, oblique)
    written = semiseg.predict(run, tmp_path / "in", tmp_path / "out")["scan"]
    scan, found, truth = (
        nib.load(p) for p in (tmp_path / "in" / "scan_0000.nii.gz", written, tmp_path / "truth.nii.gz")
    )
    assert found.shape == scan.shape
    np.testing.assert_array_equal(found.affine, scan.affine)
    predicted, true = np.asarray(found.dataobj) > 0, np.asarray(truth.dataobj) > 0
    assert 2 * (predicted & true).sum() / (predicted.sum() + true.sum()) > 0.7


def test_test_cases_of_the_split_need_no_folder(run: Path) -> None:
    written = semiseg.predict(run)
    assert len(written) == 1
    assert next(iter(written.values())).parent == run / "predictions"
    assert semiseg.evaluate(run).mean("dice") > 0.5


def test_wrong_requests(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="add -o OUT"):
        semiseg.predict(run, run.parent / "data" / "imagesTr")
    with pytest.raises(InputError, match=r"no scans \(\.nii\.gz"):
        semiseg.predict(run, tmp_path, tmp_path / "out")
    source = run.parent / "data" / "imagesTr" / "case_000_0000.nii.gz"
    for channel in range(2):
        (tmp_path / f"scan_000{channel}.nii.gz").write_bytes(source.read_bytes())
    with pytest.raises(InputError, match="trained on 1 channel"):
        semiseg.predict(run, tmp_path, tmp_path / "out")


def test_an_unfinished_run_is_refused(run: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "plan.json", "split.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    with pytest.raises(InputError, match="has not ended yet"):
        semiseg.predict(tmp_path)


@pytest.mark.slow
def test_a_real_scan_keeps_its_shape_and_affine(real_data: Path, tmp_path: Path) -> None:
    """Left-atrium MRI with a short training; the pictures of such runs are for eyes, the geometry is for this test."""
    names = sorted(path.name for path in (real_data / "la" / "labelsTr").iterdir())[:3]
    data = tmp_path / "data"
    for folder, suffix in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (data / folder).mkdir(parents=True)
        for name in names:
            case = name.removesuffix(".nii.gz")
            (data / folder / (case + suffix)).symlink_to(real_data / "la" / folder / (case + suffix))
    (data / "dataset.json").write_bytes((real_data / "la" / "dataset.json").read_bytes())
    run = _trained(data, tmp_path / "run", labelled=2, test=1, steps=3, batch={"patch": [64, 64, 32]})
    case, written = next(iter(semiseg.predict(run, overlap=0.0).items()))
    scan, found = nib.load(data / "imagesTr" / f"{case}_0000.nii.gz"), nib.load(written)
    assert found.shape == scan.shape
    np.testing.assert_array_equal(found.affine, scan.affine)
    assert found.header.get_zooms() == pytest.approx(scan.header.get_zooms())


def test_slices_of_a_fixed_size(tmp_path: Path) -> None:
    """Trained on whole slices of one size, predicted and scored on the grid of each scan."""
    data = tiny_dataset(tmp_path / "data", cases=4, labelled=4, shape=(30, 27, 5), affine=np.diag([1.0, 1.0, 8.0, 1.0]))
    plan = semiseg.prepare(data, tmp_path / "prepared", workers=1).plan
    assert plan.spatial_dims == 2
    edited = plan.model_copy(update={"slice_size": (32, 32), "patch": (32, 32)})
    edited.save(tmp_path / "edited.json")
    store = semiseg.prepare(data, tmp_path / "prepared", workers=1, plan=tmp_path / "edited.json")
    assert {store.image(case).shape for case in store.cases} == {(1, 32, 32, 5)}
    run = _trained(data, tmp_path / "run", labelled=3, test=1, steps=200, optimiser={"lr": 0.02})
    written = semiseg.predict(run)
    for case, path in written.items():
        found, scan = nib.load(path), nib.load(data / "imagesTr" / f"{case}_0000.nii.gz")
        assert found.shape == scan.shape == (30, 27, 5)
        np.testing.assert_array_equal(found.affine, scan.affine)
    assert semiseg.evaluate(run).mean("dice") > 0.7


def test_a_scan_of_which_far_less_is_kept_than_in_training_is_told_and_a_larger_field_of_view_is_not(
    run: Path, tmp_path: Path
) -> None:
    scan = np.asarray(nib.load(run.parent / "data" / "imagesTr" / "case_000_0000.nii.gz").dataobj)
    blocked = np.zeros_like(scan)
    blocked[8:12, 7:11, 6:10] = scan[8:12, 7:11, 6:10]
    (tmp_path / "in").mkdir()
    write_nifti(tmp_path / "in" / "blocked_0000.nii.gz", blocked)
    write_nifti(tmp_path / "in" / "wide_0000.nii.gz", np.pad(scan, 12))
    said: list[str] = []
    semiseg.predict(run, tmp_path / "in", tmp_path / "out", say=said.append)
    (line,) = said
    assert line.startswith(
        "warning: blocked: expected a foreground of at least 100% of the scan (5.76 ml), as in train"
    )
    assert "came 17% (1 ml)" in line
