"""The matching score Q: features with a known answer, and whole runs."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import semiseg
from semiseg.errors import InputError
from semiseg.evaluation.scan_prototypes import scan_prototypes
from semiseg.ingredients.prototypes import Prototypes, matching_per_class, matching_score
from semiseg.methods.base import entry
from semiseg.prediction.batching import WindowBatch
from semiseg.prediction.predict import Predictor
from semiseg.prediction.windows import window_starts
from semiseg.settings.run import WindowConfig
from tiny import tiny_dataset

CLASSES = 3


class Echo:
    """A network whose features are its input: `fine` as it is, `coarse` every second voxel, times a factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def tapped(self, images, taps):
        steps = {"fine": 1, "coarse": 2}
        dims = images.ndim - 2
        found = {name: self.factor * images[(..., *(slice(None, None, steps[name]),) * dims)] for name in taps}
        return images, found


@dataclass
class TwoNetworks:
    def predictors(self):
        return [Echo(1.0), Echo(2.0)]


@dataclass
class ThreeClasses:
    classes: int = CLASSES


def predictor(patch: tuple[int, ...]) -> Predictor:
    return Predictor(TwoNetworks(), ThreeClasses(), patch, torch.device("cpu"), "fp32", WindowConfig(), WindowBatch(3))  # type: ignore[arg-type]


def slow_means(image, labels, patch, step):
    """Mean feature per class over all windows, voxel by voxel; voxels outside of the image do not count."""
    flat = len(patch) == 2
    sides = (*patch, 1) if flat else patch
    sums, counts = np.zeros((CLASSES, len(image))), np.zeros(CLASSES)
    # Too short an axis is padded on both sides, so that the window starts before the image.
    starts = [
        [s - max(p - n, 0) // 2 for s in window_starts(n, p, max(round(p / 2), 1))]
        for n, p in zip(labels.shape, sides, strict=True)
    ]
    for corner in np.ndindex(*map(len, starts)):
        for offset in np.ndindex(*sides):
            if any(o % step for o in offset[: len(patch)]):
                continue
            voxel = tuple(starts[a][corner[a]] + offset[a] for a in range(3))
            if all(0 <= v < n for v, n in zip(voxel, labels.shape, strict=True)):
                sums[labels[voxel]] += image[(slice(None), *voxel)]
                counts[labels[voxel]] += 1
    return sums / np.maximum(counts, 1)[:, None], counts > 0


@pytest.mark.parametrize("patch", [(4, 4, 4), (4, 6)])
def test_means_over_all_windows_of_a_scan(patch):
    rng = np.random.default_rng(0)
    shape = (7, 5, 3)  # shorter than the patch along one axis
    image, labels = rng.normal(size=(2, *shape)).astype(np.float32), rng.integers(0, 2, shape).astype(np.uint8)
    found = scan_prototypes(predictor(patch), image, labels, ("coarse", "fine"))
    assert len(found) == 2
    for factor, levels in zip((1.0, 2.0), found, strict=True):
        for step, level in zip((2, 1), levels, strict=True):
            means, present = slow_means(image, labels, patch, step)
            np.testing.assert_allclose(level.means[0], factor * means, atol=1e-5)
            assert level.present[0].tolist() == present.tolist() == [True, True, False]


def test_scores_per_class_by_hand():
    a = Prototypes(torch.tensor([[[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]]]), torch.tensor([[True, True, False]]))
    b = Prototypes(
        torch.tensor([[[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]]),
        torch.tensor([[True, True, True], [True, False, True]]),
    )
    wanted = [(1 + math.exp(-2)) / 2, math.exp(-4)]
    assert matching_per_class(a, b)[:2].tolist() == pytest.approx(wanted)
    assert matching_per_class(a, b)[2].isnan()
    assert matching_score(a, b).item() == pytest.approx((1 + math.exp(-2) + math.exp(-4)) / 3)


def train(data: Path, output: Path, **settings: object) -> Path:
    usual = {"method": "supervised", "labelled": 2, "test": 1, "steps": 4, "seed": 1}
    usual |= {"batch": {"patch": [8, 8, 8]}, "network": {"options": {"filters": [4, 8, 8]}}}
    return semiseg.train(
        data,
        output,
        prepared=data.parent / "prepared",
        accelerator="cpu",
        **(usual | settings),
    ).path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("matching") / "data", cases=5, labelled=4, shape=(12, 10, 8))


VNET = {"name": "vnet", "options": {"filters": 2}}


@pytest.mark.parametrize(
    ("settings", "taps", "networks"),
    [
        ({"method": "supervised"}, ["dec1", "dec2"], 1),
        ({"method": "cps"}, ["dec1", "dec2"], 2),
        ({"method": "lefed"}, ["dec1", "dec2"], 1),
        ({"method": "ducisc", "options": {"ensemble": "temporal", "predict_with": "teacher"}}, ["dec1", "dec2"], 1),
        (
            {"method": "mean_teacher", "network": VNET, "batch": {"patch": [16, 16, 16]}},
            [f"sum{k}" for k in range(1, 5)],
            1,
        ),
    ],
    ids=lambda value: str(value.get("method")) if isinstance(value, dict) else None,
)
def test_a_run_of_any_method(data: Path, tmp_path: Path, settings: dict, taps: list[str], networks: int) -> None:
    run = train(data, tmp_path / "run", **settings)
    seen: list[str] = []
    found = semiseg.matching(run, accelerator="cpu", done=seen.append)
    split = json.loads((run / "split.json").read_text())
    assert seen == [*split["labelled"], *split["unlabelled"]]
    assert (list(found.labelled), list(found.unlabelled)) == (split["labelled"], split["unlabelled"])
    assert [level.tap for level in found.levels] == taps
    assert found.networks == networks
    assert found.levels[-1].stride == (1, 1, 1)
    assert 0 < found.q == found.levels[-1].total <= 1
    for level in found.levels:
        defined = [q for q in level.classes if not math.isnan(q)]
        assert defined
        assert min(defined) - 1e-6 <= level.total <= max(defined) + 1e-6  # sums of float32
    with (run / "matching.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["tap"], row["class"]) for row in rows[:4]] == [(taps[0], name) for name in (*found.class_names, "all")]
    assert float(rows[-1]["q"]) == found.q == json.loads((run / "matching.json").read_text())["q"]
    table = found.table()
    assert f"Q = {found.q:.4f}" in table
    assert all(tap in table for tap in taps)
    assert not (run / "test_opened.json").exists()


def test_no_label_is_read_but_those_of_the_training(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", cases=5, labelled=5, shape=(12, 10, 8))
    run = train(data, tmp_path / "run")
    first = semiseg.matching(run, accelerator="cpu")
    for case in (*first.unlabelled, *json.loads((run / "split.json").read_text())["test"]):
        (data / "labelsTr" / f"{case}.nii.gz").write_bytes(b"not a label")
    assert semiseg.matching(run, tmp_path / "again", accelerator="cpu") == first
    assert (tmp_path / "again" / "matching.csv").read_bytes() == (run / "matching.csv").read_bytes()
    (data / "labelsTr" / f"{first.labelled[0]}.nii.gz").unlink()
    with pytest.raises(InputError, match=f"case {first.labelled[0]}: its label file is not"):
        semiseg.matching(run, accelerator="cpu")


def test_folders_that_cannot_be_matched(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no run folder") as caught:
        semiseg.matching(data / "labelsTr")
    assert len(caught.value.problems) == 1
    cases = {"labelled": ["case_000", "case_001"], "unlabelled": [], "validation": [], "test": ["case_002"]}
    (tmp_path / "split.json").write_text(json.dumps(cases))
    run = train(data, tmp_path / "none", labelled=None, test=0, split=tmp_path / "split.json")
    with pytest.raises(InputError, match="no unlabelled cases") as caught:
        semiseg.matching(run)
    assert len(caught.value.problems) == 1
    run = train(data, tmp_path / "run")
    monkeypatch.setattr(entry("supervised").cls, "predictors", lambda self: ())
    with pytest.raises(InputError, match="does not say which networks predict"):
        semiseg.matching(run)
