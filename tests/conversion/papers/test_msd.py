"""Tasks of the Medical Segmentation Decathlon as they are downloaded, through check and prepare."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import semiseg
from downloads_organs import describe_task, msd_task
from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from semiseg.scans.readers import read_image, read_label
from tiny import write_nifti


def edit(folder: Path, **changes) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("channels", [1, 2])
def test_from_source_to_prepared_store(tmp_path, channels):
    folder = msd_task(tmp_path, channels)
    data = tmp_path / "data"
    done = semiseg.import_dataset("msd", folder.parent if channels == 2 else folder, data, workers=1)
    assert len(done.cases) == 5
    assert done.splits == {}
    report = semiseg.check(data)
    assert report.errors == ()
    assert (report.labelled, report.unlabelled) == (3, 2)
    assert semiseg.prepare(data, workers=1).plan.class_names == ("background", "PZ", "TZ")

    dataset = open_dataset(data)
    assert (dataset.name, dataset.channels) == ("TINY", ("T0", "T1")[:channels])
    for name in ("tiny_01", "tiny_04"):
        case = dataset.cases[name]
        source = nib.load(folder / ("imagesTs" if name == "tiny_04" else "imagesTr") / f"{name}.nii.gz")
        volume = read_image(case.images)
        values = source.get_fdata(dtype=np.float32)
        np.testing.assert_array_equal(volume.array, np.moveaxis(values, 3, 0) if channels > 1 else values[None])
        np.testing.assert_allclose(volume.affine, source.affine, atol=1e-5)
        assert (case.label is None) == (name == "tiny_04")
    label = np.asanyarray(nib.load(folder / "labelsTr" / "tiny_01.nii.gz").dataobj)
    np.testing.assert_array_equal(read_label(dataset.cases["tiny_01"].label).array, label)


def test_without_the_unlabelled_scans(tmp_path):
    done = semiseg.import_dataset(
        "msd", msd_task(tmp_path, 1), tmp_path / "data", options={"unlabelled": False}, workers=1
    )
    assert len(done.cases) == 3


def test_part_of_a_task(tmp_path):
    folder = msd_task(tmp_path, 1)
    (folder / "imagesTr" / "tiny_02.nii.gz").unlink()
    with pytest.raises(InputError, match=r"tiny_02\.nii\.gz: expected this file beside"):
        semiseg.import_dataset("msd", folder, tmp_path / "data", workers=1)
    (folder / "labelsTr" / "tiny_02.nii.gz").unlink()
    done = semiseg.import_dataset("msd", folder, tmp_path / "data", workers=1)
    assert done.cases == ("tiny_00", "tiny_01", "tiny_03", "tiny_04")
    assert any("1 scan(s) that dataset.json lists are not there (tiny_02)" in note for note in done.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": {}}, "modality: expected names by number"),
        ({"labels": {"0": "background", "2": "PZ"}}, "labels: expected names by number"),
        ({"training": [{"image": "../elsewhere.nii.gz", "label": "./labelsTr/a.nii.gz"}]}, "of the task's own folder"),
        ({"training": [{"image": "./imagesTr/a.nii.gz"}]}, "of the task's own folder"),
        ({"channel_names": {"0": "MRI"}}, "needs no import"),
    ],
)
def test_wrong_description(tmp_path, changes, message):
    folder = msd_task(tmp_path, 1)
    edit(folder, **changes)
    with pytest.raises(InputError, match=message):
        semiseg.import_dataset("msd", folder, tmp_path / "data", workers=1)


def test_wrong_files(tmp_path):
    folder = msd_task(tmp_path, 2)
    write_nifti(folder / "imagesTr" / "tiny_00.nii.gz", np.zeros((20, 18, 16, 3), np.float32))
    whole = (folder / "imagesTr" / "tiny_01.nii.gz").read_bytes()
    (folder / "imagesTr" / "tiny_01.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError) as caught:
        semiseg.import_dataset("msd", folder, tmp_path / "data", workers=1)
    first, second = sorted(caught.value.problems)
    assert "expected 2 channel(s)" in first
    assert "expected a whole NIfTI file" in second


def test_two_tasks_in_one_folder(tmp_path):
    msd_task(tmp_path / "a", 1)
    msd_task(tmp_path / "b", 1)
    both = tmp_path / "both"
    both.mkdir()
    (tmp_path / "a" / "Task05_Tiny").rename(both / "Task04_A")
    (tmp_path / "b" / "Task05_Tiny").rename(both / "Task05_B")
    with pytest.raises(InputError, match=r"expected one task, found 2 \(Task04_A, Task05_B\)"):
        semiseg.import_dataset("msd", both, tmp_path / "data", workers=1)


def test_real_hippocampus_under_its_names_of_the_download(real_data, tmp_path):
    kept = real_data / "hippocampus"
    if not kept.is_dir():
        pytest.skip(f"no {kept}")
    folder = tmp_path / "Task04_Hippocampus"
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True)
    cases = sorted(path.name.removesuffix("_0000.nii.gz") for path in (kept / "imagesTr").glob("*.nii.gz"))[:4]
    for case in cases[:3]:
        (folder / "imagesTr" / f"{case}.nii.gz").symlink_to(kept / "imagesTr" / f"{case}_0000.nii.gz")
        (folder / "labelsTr" / f"{case}.nii.gz").symlink_to(kept / "labelsTr" / f"{case}.nii.gz")
    (folder / "imagesTs" / f"{cases[3]}.nii.gz").symlink_to(kept / "imagesTr" / f"{cases[3]}_0000.nii.gz")
    labels = {"0": "background", "1": "Anterior", "2": "Posterior"}
    describe_task(folder, {"0": "MRI"}, labels, cases[:3], cases[3:])
    semiseg.import_dataset("msd", folder, tmp_path / "data", workers=1)
    assert semiseg.check(tmp_path / "data").errors == ()
    dataset, original = open_dataset(tmp_path / "data"), open_dataset(kept)
    for case in cases:
        ours, theirs = (read_image(found.cases[case].images) for found in (dataset, original))
        np.testing.assert_array_equal(ours.array, theirs.array)
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-5)
    assert semiseg.prepare(tmp_path / "data", workers=1).plan.spatial_dims == 3
