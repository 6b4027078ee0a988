"""Reading what was damaged: it is refused with an `InputError`, or what comes out is valid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import semiseg
from semiseg.comparison.grid import load_grid
from semiseg.datasets.dataset import Dataset, open_dataset
from semiseg.datasets.splits import load_split
from semiseg.errors import InputError
from semiseg.networks import build_network
from semiseg.networks.import_weights import import_weights
from semiseg.prediction.predict import load_predictor
from semiseg.preparing.plan import Plan
from semiseg.preparing.prepare import prepare
from semiseg.preparing.store import open_store
from semiseg.reports.records import read_records
from semiseg.runs import checkpoint
from semiseg.runs.folder import Run
from semiseg.scans.readers import read_header, read_image, read_label
from semiseg.settings.load import load_config
from semiseg.settings.run import RunConfig
from semiseg.validation import parse, read_mapping

Judge = Callable[[Path, Path], None]
"""Called with the folder of the sample and the damaged file in it."""

NETWORK: dict[str, Any] = {"filters": [4, 8]}


class Invalid(Exception):
    """Something was taken that should not have been."""


def require(condition: object, what: str) -> None:
    """Raise `Invalid` unless `condition` holds."""
    if not condition:
        raise Invalid(what)


def scan(_: Path, target: Path) -> None:
    """A scan by itself: header and voxels agree, values and places are finite."""
    path = target.parent if target.suffix == ".dcm" and len(list(target.parent.iterdir())) > 2 else target
    header = read_header(path)
    volume = read_image([path])
    require(volume.array.dtype in (np.int16, np.float32), f"intensities of type {volume.array.dtype}")
    require(volume.array.shape == (header.channels, *header.shape), f"{volume.array.shape} for {header}")
    require(np.isfinite(volume.array).all(), "intensities that are not finite")
    require(np.isfinite(volume.affine).all() and min(volume.spacing) > 0, f"affine {volume.affine}")
    require(np.array_equal(volume.affine, header.affine), "two affines")


def label(_: Path, target: Path) -> None:
    """A label by itself."""
    header, volume = read_header(target, "label"), read_label(target)
    require(volume.array.dtype == np.uint8, f"label of type {volume.array.dtype}")
    require(volume.array.shape == header.shape, f"{volume.array.shape} for {header}")
    require(np.isfinite(volume.affine).all(), f"affine {volume.affine}")


def dataset(root: Path, target: Path) -> None:
    """A dataset with one damaged file: `check` never stops at it, and takes it only where the reader does."""
    alone: InputError | None = None
    try:
        if "labelsTr" in target.parts:
            label(root, target)
        elif "imagesTr" in target.parts:
            scan(root, target)
    except InputError as error:
        alone = error
    report = semiseg.check(root, workers=1)
    for line in (*report.errors, *report.warnings):
        require("\n" not in line, f"a problem of several lines: {line!r}")
    if alone is not None:
        require(report.errors, f"check takes what the reader refuses: {alone}")
        raise alone
    report.raise_if_errors()
    held(open_dataset(root))


def held(found: Dataset) -> None:
    """No case leaves its folder."""
    for case, item in found.cases.items():
        require(case == Path(case).name and case.isprintable(), f"case id {case!r}")
        for path in (*item.images, *((item.label,) if item.label else ())):
            require(found.root.resolve() in path.resolve().parents, f"{path} is outside of the dataset")


def split(root: Path, target: Path) -> None:
    """Roles that exclude each other, of cases that there are."""
    found = open_dataset(root)
    roles = load_split(target, found).roles
    cases = [case for role in roles.values() for case in role]
    require(len(cases) == len(set(cases)) and set(cases) <= found.cases.keys(), f"roles {roles}")
    require(roles["labelled"], "no labelled case")


def plan(root: Path, target: Path) -> None:
    """A plan that is the same when it was saved and loaded, and that the dataset can be prepared with."""
    loaded = Plan.load(target)
    copy = target.with_suffix(".copy")
    loaded.save(copy)
    require(Plan.load(copy).digest == loaded.digest, "a plan that changes when it is saved")
    store(root, target)


def store(root: Path, _: Path) -> None:
    """A prepared store that is opened again, or prepared again where something is wrong with it."""
    found = prepare(open_dataset(root), workers=1)
    opened = open_store(root / "prepared")
    require(found.plan == opened.plan, "two plans")
    for case in opened.cases:
        image = opened.image(case)
        require(image.dtype == np.float16 and image.ndim == 4, f"image {image.dtype} {image.shape}")
        require(image.shape == (len(found.plan.channels), *opened.meta(case).geometry.stored), f"shape {image.shape}")
        if opened.has_label(case):
            labels = opened.label(case)
            require(labels.dtype == np.uint8 and labels.shape == image.shape[1:], f"label {labels.dtype}")


def config(_: Path, target: Path) -> None:
    """Settings that are the same when they were written and read."""
    found = load_config(target, {})
    again = target.with_suffix(".again.yaml")
    again.write_text(found.to_yaml(), encoding="utf-8")
    require(parse(RunConfig, read_mapping(again), "again") == found, "settings that change when they are written")


def grid(_: Path, target: Path) -> None:
    """The grid of a comparison."""
    found = load_grid(target, {})
    require(found.methods and found.seeds and (found.labelled or found.splits), f"grid {found}")


def run_folder(root: Path, _: Path) -> None:
    """A finished run: its documents, its newest checkpoint, and its predictor, which gives finite numbers."""
    run = Run(root)
    run.split()
    checkpoint.latest(run.checkpoints)
    predictor = load_predictor(run, accelerator="cpu")
    require(all(tensor.isfinite().all() for tensor in predictor.method.state_dict().values()), "weights not finite")
    predictor.label_stored(np.zeros((len(predictor.plan.channels), 16, 16, 16), np.float32))


def records(root: Path, _: Path) -> None:
    """What the report reads of a run."""
    (record,) = read_records([root])
    for group in ("loss", "observed", "validation"):
        for name in record.names(group):
            record.curve(group, name)


def weights(_: Path, target: Path) -> None:
    """Weights of another program."""
    network = build_network("unet", channels=1, classes=3, spatial_dims=3, **NETWORK)
    import_weights(target, network)


def patients(root: Path, target: Path) -> None:
    """dataset.json and patients.json are read without the voxels as well."""
    held(open_dataset(root))
    dataset(root, target)


def note(target: Path, old: str, new: str) -> None:
    """Replace a word in a JSON file."""
    target.write_text(json.dumps(json.loads(target.read_text().replace(old, new))))
