"""Datasets in other formats than NIfTI: checked, prepared, trained on, predicted and scored as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import semiseg
from scans.foreign import affine_of, write_dicom, write_sitk
from semiseg.errors import InputError
from semiseg.scans.readers import read_header, read_label
from tiny import tiny_dataset

AFFINE = affine_of(np.eye(3)[:, [1, 0, 2]], spacing=(1, 1.5, 2))


def _nrrd(path: Path, array: np.ndarray) -> None:
    write_sitk(path, array, AFFINE)


def _h5(path: Path, array: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["label" if "labelsTr" in path.parts else "image"] = array


def _png(path: Path, array: np.ndarray) -> None:
    Image.fromarray(np.clip(array[:, :, 0].T, 0, 255).astype(np.uint8)).save(path)


def _converted(root: Path, ending: str, write: Callable[[Path, np.ndarray], None], spacing: list[float] | None) -> Path:
    """The tiny dataset in another format."""
    for folder in ("imagesTr", "labelsTr"):
        for file in sorted((root / folder).iterdir()):
            write(file.with_name(file.name.replace(".nii.gz", ending)), _array(file))
            file.unlink()
    path = root / "dataset.json"
    extra = {} if spacing is None else {"spacing": spacing}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"file_ending": ending} | extra))
    return root


def _small(dims: int) -> dict[str, Any]:
    """Settings of a training that takes no time."""
    network, batch = {"options": {"filters": [4, 8]}}, {"patch": [16] * dims}
    return {"method": "supervised", "steps": 1, "precision": "fp32", "network": network, "batch": batch}


def _array(path: Path) -> np.ndarray:
    from semiseg.scans.readers import read_stored

    return read_stored(path).array[0]


@pytest.mark.parametrize(
    ("ending", "write", "spacing", "shape"),
    [
        (".nrrd", _nrrd, None, (16, 14, 12)),
        (".h5", _h5, [1.0, 1.0, 2.0], (16, 14, 12)),
        (".png", _png, [0.5, 0.5, 1.0], (32, 24, 1)),
    ],
)
def test_from_check_to_scores(
    tmp_path: Path,
    ending: str,
    write: Callable[[Path, np.ndarray], None],
    spacing: list[float] | None,
    shape: tuple[int, ...],
) -> None:
    root = _converted(tiny_dataset(tmp_path / "data", cases=4, labelled=4, shape=shape), ending, write, spacing)
    report = semiseg.check(root, workers=1)
    assert (report.errors, report.warnings, report.labelled) == ((), (), 4)
    run = semiseg.train(root, tmp_path / "run", labelled=2, test=1, **_small(2 if ending == ".png" else 3))
    written = semiseg.predict(run.path, accelerator="cpu")
    (case,) = written
    scan = read_header(root / "imagesTr" / f"{case}_0000{ending}", spacing=tuple(spacing) if spacing else None)
    label = read_label(written[case])
    assert written[case].name == f"{case}.nii.gz"
    assert label.array.shape == scan.shape
    np.testing.assert_allclose(label.affine, scan.affine, atol=1e-5)
    scores = semiseg.evaluate(run.path, workers=1)
    assert scores.cases == (case,)
    again = semiseg.evaluate(run.path / "predictions", _labels_of(root, case, ending, tmp_path), workers=1)
    assert [row.scores for row in again.rows] == [row.scores for row in scores.rows]


def _labels_of(root: Path, case: str, ending: str, tmp_path: Path) -> Path:
    """A folder with the label files of one case."""
    folder = tmp_path / "reference" / "labelsTr"
    folder.mkdir(parents=True)
    for file in (root / "labelsTr").iterdir():
        if file.name.startswith(case):
            (folder / file.name).write_bytes(file.read_bytes())
    (folder.parent / "dataset.json").write_bytes((root / "dataset.json").read_bytes())
    assert (folder / f"{case}{ending}").is_file()
    return folder


def test_one_model_labels_scans_of_any_format(tmp_path: Path) -> None:
    root = tiny_dataset(tmp_path / "data", cases=3, labelled=3, shape=(16, 14, 12))
    array = _array(root / "imagesTr/case_000_0000.nii.gz")
    run = semiseg.train(root, tmp_path / "run", **_small(3))
    scans = tmp_path / "scans"
    write_sitk(scans / "a.nrrd", array, AFFINE)
    write_dicom(scans / "series", array, affine_of(np.eye(3)))
    np.save(scans / "b.npy", array)
    written = semiseg.predict(run.path, scans, tmp_path / "out", accelerator="cpu", spacing=(1, 1, 4))
    assert sorted(written) == ["a", "b", "series"]
    for case, scan in (("a", scans / "a.nrrd"), ("series", scans / "series")):
        np.testing.assert_allclose(read_header(written[case]).affine, read_header(scan).affine, atol=1e-5)
    assert read_label(written["b"]).spacing == pytest.approx((1, 1, 4))
    single = semiseg.predict(run.path, scans / "series", tmp_path / "single", accelerator="cpu")
    assert single["series"].read_bytes() == written["series"].read_bytes()
    write_sitk(tmp_path / "rgb" / "c.nrrd", np.stack([array] * 3), AFFINE)
    with pytest.raises(InputError, match="trained on 1 channel"):
        semiseg.predict(run.path, tmp_path / "rgb", tmp_path / "out2", accelerator="cpu")


def test_colours_in_one_file_are_the_channels_of_dataset_json(tmp_path: Path) -> None:
    root = tiny_dataset(tmp_path, cases=2, labelled=2, shape=(32, 24, 1), channels=3)
    for case in ("case_000", "case_001"):
        channels = [root / f"imagesTr/{case}_{c:04d}.nii.gz" for c in range(3)]
        pixels = np.stack([np.clip(_array(path)[:, :, 0].T, 0, 255) for path in channels], axis=-1).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"imagesTr/{case}_0000.png")
        _png(root / f"labelsTr/{case}.png", _array(root / f"labelsTr/{case}.nii.gz"))
    for file in root.rglob("*.nii.gz"):
        file.unlink()
    path = root / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"file_ending": ".png", "spacing": [1, 1, 1]}))
    assert semiseg.check(root).errors == ()
    store = semiseg.prepare(root, workers=1)
    assert store.image("case_000").shape[0] == 3
    path.write_text(path.read_text().replace('"2": "channel2"', '"2": "channel2", "3": "channel3"'))
    assert "expected 4 channel(s), came 3" in semiseg.check(root).errors[0]


def test_a_changed_data_file_is_noticed(tmp_path: Path) -> None:
    """The header of a detached file does not change when its voxels do."""
    root = tiny_dataset(tmp_path / "data", cases=2, labelled=2, shape=(16, 14, 12))
    _converted(root, ".mhd", _nrrd, None)
    before = semiseg.prepare(root, workers=1).meta("case_000").content
    data = root / "imagesTr/case_000_0000.raw"
    values = np.frombuffer(data.read_bytes(), np.int16)
    data.write_bytes((values[::-1] + 5).astype(np.int16).tobytes())
    assert semiseg.prepare(root, workers=1).meta("case_000").content != before
