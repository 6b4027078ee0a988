"""Mistakes of the first hour: each ends with one line that says what to do, and none with a traceback."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from commands import semiseg
from tiny import tiny_dataset, write_nifti

SMALL = (
    "--set=network.options={filters: [4, 8]}",
    "--set=batch.patch=[16, 16, 16]",
    "--set=accelerator=cpu",
    "--steps=2",
)


@dataclass(frozen=True)
class Desk:
    """What lies on a new user's desk: raw folders, a dataset, a run, predictions, references."""

    root: Path

    def __getattr__(self, name: str) -> Path:
        return self.root / name


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    root = tmp_path_factory.mktemp("desk")
    data = tiny_dataset(root / "data", cases=5, labelled=5)
    shutil.copytree(data / "imagesTr", root / "mri")
    shutil.copytree(data / "labelsTr", root / "seg")
    for path in (root / "mri").iterdir():  # scans have halves, labels do not
        image = nib.load(path)
        write_nifti(path, np.asarray(image.dataobj, np.float32) + 0.5)
    (root / "empty").mkdir()
    (root / "bad.yaml").write_text("steps: none\nlabelledd: 3\n")
    (root / "odd.yaml").write_text("foo")
    (root / "unknown.json").write_text(json.dumps({"labelled": ["case_000"], "test": ["case_999"]}))
    trained = semiseg("train", data, "-m", "supervised", "-n", 2, "--test", 2, "-o", root / "run", *SMALL)
    assert trained.returncode == 0, trained.stderr
    assert semiseg("predict", root / "run", root / "mri", "-o", root / "pred").returncode == 0
    config = (root / "run" / "config.yaml").read_text()
    (root / "begun").mkdir()
    (root / "begun" / "config.yaml").write_text(config)
    for name in ("plan.json", "split.json", "provenance.json"):
        shutil.copy(root / "run" / name, root / "begun" / name)
    geometry = tiny_dataset(root / "geometry", cases=3, labelled=3)
    shifted = np.eye(4)
    shifted[0, 3] = 8
    write_nifti(geometry / "labelsTr" / "case_001.nii.gz", np.zeros((20, 18, 16), np.uint8), shifted)
    values = tiny_dataset(root / "values", cases=3, labelled=3)
    half = np.zeros((20, 18, 16), np.float32)
    half[3, 4, 5] = 0.5
    write_nifti(values / "labelsTr" / "case_001.nii.gz", half)
    masks = tiny_dataset(root / "masks", cases=3, labelled=3)
    write_nifti(masks / "labelsTr" / "case_001.nii.gz", np.full((20, 18, 16), 255, np.uint8))
    alone = tiny_dataset(root / "unlabelled", cases=3, labelled=0)
    description = json.loads((alone / "dataset.json").read_text())
    for name, labels in {
        "regions": {"background": 0, "whole": [1, 2], "core": 2},
        "ignored": {"background": 0, "class1": 1, "ignore": 2},
    }.items():
        shutil.copytree(data, root / name)
        (root / name / "dataset.json").write_text(json.dumps(description | {"labels": labels}))
    return Desk(root)


TRAIN = ("train", "{data}", "-o", "{root}/new")

MISTAKES = {
    # the command line
    "verb": (("trian", "{data}"), "Did you mean 'train'"),
    "nothing": (("train",), "dataset folder"),
    "American spelling": ((*TRAIN, "--labeled", "2"), "--labelled"),
    "method": ((*TRAIN, "-m", "mikd"), "did you mean 'micd'"),
    "network": ((*TRAIN, "--network", "vnett"), "did you mean 'vnet'"),
    "preset": ((*TRAIN, "--preset", "laa"), "did you mean 'la'"),
    "optimizer": ((*TRAIN, "--set", "optimizer.lr=0.1"), "did you mean 'optimiser'"),
    "a setting of a group": ((*TRAIN, "--set", "lr=0.1"), "did you mean 'optimiser.lr'"),
    "a setting in the wrong group": ((*TRAIN, "--set", "batch.lr=0.1"), "did you mean 'optimiser.lr'"),
    "learning rate": ((*TRAIN, "--set", "learning_rate=0.1"), "known:"),
    "no value": ((*TRAIN, "--set", "foo"), "expected NAME=VALUE"),
    "augment": ((*TRAIN, "--set", "augment.flipp=0.5"), "did you mean 'flip'"),
    "option of another method": ((*TRAIN, "-m", "cps", "--set", "options.mask_ratio=0.5"), "unknown setting"),
    "loss": ((*TRAIN, "-m", "supervised", "--set", "options.loss=focal"), "ssl4mis"),
    "depth": ((*TRAIN, "--set", "network.options.depth=3"), "unknown setting"),
    "steps 0": ((*TRAIN, "--steps", "0"), "greater than"),
    "steps in words": ((*TRAIN, "--steps", "many"), "valid integer"),
    "patch": ((*TRAIN, "--set", "batch.patch=[33, 33, 33]"), "take [36, 36, 36]"),
    "precision": ((*TRAIN, "--precision", "fp16"), "bf16"),
    "GPU": ((*TRAIN, "--accelerator", "gpu", *SMALL[:2]), "gpu"),
    "settings file": (("train", "--config", "{root}/bad.yaml"), "did you mean 'labelled'"),
    "settings file that is none": (("train", "--config", "{root}/odd.yaml"), "expected a mapping of settings"),
    "settings file that is not there": (("train", "--config", "{root}/badd.yaml"), "did you mean 'bad.yaml'"),
    # data
    "wrong path": (("train", "{root}/dato"), "dato"),
    "raw folder": (("train", "{mri}"), "semiseg init {mri} --labels LABELS -o DATA"),
    "raw folder to prepare": (("prepare", "{mri}"), "semiseg init {mri} --labels LABELS"),
    "raw folder to check": (("check", "{mri}"), "semiseg init {mri} --labels LABELS"),
    "more labels than there are": ((*TRAIN, "-n", "8"), "5"),
    "split file": ((*TRAIN, "--split", "{root}/nowhere.json"), "nowhere.json"),
    "case in the split": ((*TRAIN, "--split", "{root}/unknown.json"), "case_999"),
    "label elsewhere": (("check", "{geometry}"), "copy the affine"),
    "label of halves": (("check", "{values}"), "0.5"),
    "mask of 255": (("check", "{masks}"), "--classes"),
    "no labels": (("check", "{unlabelled}"), "--labels LABELS"),
    "regions": (("check", "{regions}"), "region"),
    "ignore label": (("check", "{ignored}"), "ignore"),
    # init
    "init: swapped names": (("init", "{seg}", "--labels", "{mri}", "-o", "{root}/d1"), "swapped"),
    "init: wrong path": (("init", "{root}/mrj", "--labels", "{seg}", "-o", "{root}/d2"), "check the path"),
    "init: output is a source": (("init", "{mri}", "--labels", "{seg}", "-o", "{mri}"), "outside of"),
    "init: output in a source": (("init", "{mri}", "--labels", "{seg}", "-o", "{mri}/data"), "outside of"),
    "init: number of classes": (
        ("init", "{mri}", "--labels", "{seg}", "--classes", "one", "-o", "{root}/d3"),
        "--classes",
    ),
    # runs
    "same folder, other method": (("train", "{data}", "-m", "cps", "-o", "{run}", *SMALL), "or delete the folder"),
    "predict: no run": (("predict", "{data}", "{mri}", "-o", "{root}/p1"), "no run folder"),
    "predict: no folder to write": (("predict", "{run}", "{mri}"), "add -o OUT"),
    "predict: empty folder": (("predict", "{run}", "{empty}", "-o", "{root}/p2"), "no scans"),
    "predict: wrong path": (("predict", "{run}", "{root}/mrj", "-o", "{root}/p3"), "check the path"),
    "predict: into the scans": (("predict", "{run}", "{mri}", "-o", "{mri}"), "another folder"),
    "predict: unfinished": (("predict", "{begun}", "{mri}", "-o", "{root}/p4"), "not ended"),
    # scores
    "evaluate: no labels": (("evaluate", "{pred}"), "semiseg evaluate {pred} LABELS"),
    "evaluate: swapped": (("evaluate", "{seg}", "{pred}"), "swapped"),
    "evaluate: scans as predictions": (("evaluate", "{mri}", "{seg}"), "whole numbers"),
    "evaluate: scans as references": (("evaluate", "{pred}", "{mri}"), "whole numbers"),
    "evaluate: not predicted yet": (("evaluate", "{run}"), "semiseg predict {run}"),
    "evaluate: wrong path": (("evaluate", "{pred}", "{root}/segg"), "segg"),
    "evaluate: wrong pattern": (("evaluate", "{pred}", "{seg}", "--pattern", "case"), "brackets"),
    "report on a dataset": (("report", "{data}"), "no run folder"),
    "methods": (("methods", "mean-teacher"), "did you mean 'mean_teacher'"),
    "presets": (("presets", "acd"), "did you mean 'acdc'"),
    "select without validation": ((*TRAIN, "--set", "select=best"), "validation"),
}


def _filled(text: str, places: dict[str, Path]) -> str:
    for name, path in places.items():
        text = text.replace(f"{{{name}}}", str(path))
    return text


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_what_to_do(desk: Desk, mistake: str) -> None:
    words, expected = MISTAKES[mistake]
    places = {name: getattr(desk, name) for name in ("data", "mri", "seg", "run", "begun", "pred", "empty")}
    places |= {name: getattr(desk, name) for name in ("geometry", "values", "masks", "unlabelled", "regions")}
    places |= {"root": desk.root, "ignored": desk.ignored}
    answer = semiseg(*(_filled(word, places) for word in words))
    said = " ".join(f"{answer.stdout} {answer.stderr}".split())
    assert answer.returncode in (1, 2), said
    assert "Traceback" not in said
    assert _filled(expected, places) in said, said


def test_a_run_without_a_checkpoint_is_begun_anew(desk: Desk, tmp_path: Path) -> None:
    """A first attempt that failed or was stopped does not block its folder."""
    shutil.copytree(desk.begun, tmp_path / "run")
    answer = semiseg("train", desk.data, "-m", "mean_teacher", "-n", 2, "-o", tmp_path / "run", *SMALL)
    assert answer.returncode == 0, answer.stderr


def test_a_dataset_that_was_moved_is_the_same_dataset(desk: Desk, tmp_path: Path) -> None:
    shutil.copytree(desk.run, tmp_path / "run")
    shutil.copytree(desk.data, tmp_path / "elsewhere")
    words = ("-m", "supervised", "-n", 2, "--test", 2, "-o", tmp_path / "run", *SMALL)
    again = semiseg("train", tmp_path / "elsewhere", *words)
    assert again.returncode == 0, again.stderr
    assert str(tmp_path / "elsewhere") in (tmp_path / "run" / "config.yaml").read_text()
    image = tmp_path / "elsewhere" / "imagesTr" / "case_000_0000.nii.gz"
    write_nifti(image, np.asarray(nib.load(image).dataobj)[::-1])
    other = semiseg("train", tmp_path / "elsewhere", *words, "--set=log_every=7")
    assert other.returncode == 2
    assert "images changed since" in other.stderr
