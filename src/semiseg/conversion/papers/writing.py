"""Writing imported scans as a dataset folder: every file whole or not there, and dataset.json last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.conversion.papers.base import Description, Item, Layout, Scan
from semiseg.datasets.dataset import IMAGES, LABELS
from semiseg.datasets.splits import Split, save_split
from semiseg.errors import InputError
from semiseg.scans.readers import Volume, write_nifti
from semiseg.system.files import write_json

Array = np.ndarray[Any, np.dtype[Any]]

ENDING = ".nii.gz"
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class CaseTask:
    """One scan to import into the dataset folder `root`."""

    root: Path
    item: Item
    layout: Layout
    options: Any
    description: Description

    @property
    def images(self) -> list[Path]:
        """Image files to write, one per channel."""
        folder = self.root / IMAGES
        return [folder / f"{self.item.case}_{number:04d}{ENDING}" for number in range(len(self.description.channels))]

    @property
    def label(self) -> Path:
        """Label file to write."""
        return self.root / LABELS / f"{self.item.case}{ENDING}"


def done(task: CaseTask) -> bool:
    """Whether the case was written after its source files last changed; the last image is written last."""
    written = task.images[-1]
    if not all(path.is_file() for path in task.images):
        return False
    return written.stat().st_mtime_ns >= max(path.stat().st_mtime_ns for path in task.item.files)


def import_case(task: CaseTask) -> tuple[str, ...]:
    """Convert and write one scan; returns what is wrong with it, if anything, so that all scans are looked at."""
    try:
        scan = task.layout.convert(task.item, task.options)
        problems = _problems(task, scan)
        if not problems:
            _write(task, scan)
        return problems
    except InputError as error:
        return error.problems


def _problems(task: CaseTask, scan: Scan) -> tuple[str, ...]:
    source = task.item.images[0]
    channels = len(task.description.channels)
    if scan.image.ndim != 4 or len(scan.image) != channels:
        return (
            f"{source}: expected {channels} channel(s) of a 3D scan, came shape {list(scan.image.shape)}: check that "
            "this is the file of the original download",
        )
    found = []
    if not np.isfinite(scan.image).all():
        found.append(f"{source}: expected finite intensities, came NaN or infinity: download the file again")
    if scan.label is not None:
        found.extend(_label_problems(task, scan.label, scan.image.shape[1:]))
    return tuple(found)


def _label_problems(task: CaseTask, label: Array, shape: tuple[int, ...]) -> Iterator[str]:
    source = task.item.label or task.item.images[0]
    if label.shape != shape:
        yield (
            f"{source}: expected a label of shape {list(shape)} as its image, came {list(label.shape)}: take both from "
            "the same download"
        )
    known = len(task.description.class_names)
    odd = [f"{value:g}" for value in np.unique(label) if value not in range(known)]
    if odd:
        yield (
            f"{source}: expected the label values 0 to {known - 1}, came {', '.join(odd[:5])}: check that this is the "
            "label file of the original download"
        )


def _write(task: CaseTask, scan: Scan) -> None:
    for path in task.images:
        path.unlink(missing_ok=True)  # an old image beside a new label would look whole
    if scan.label is not None:
        write_nifti(task.label, Volume(scan.label.astype(np.uint8), scan.affine))
    else:
        task.label.unlink(missing_ok=True)
    for path, channel in zip(task.images, scan.image, strict=True):
        write_nifti(path, Volume(_stored(channel), scan.affine))


def _stored(array: Array) -> Array:
    """`array` as int16 where that holds it, else as float32."""
    if array.dtype.kind in "iub" and array.size and _INT16.min <= array.min() and array.max() <= _INT16.max:
        return array.astype(np.int16)
    return array.astype(np.float32)


def write_splits(root: Path, splits: Mapping[str, Split]) -> None:
    """Write the split files that `--split` takes."""
    for name, split in splits.items():
        save_split(split, root / "splits" / f"{name}.json")


def write_description(
    root: Path, description: Description, items: Sequence[Item], provenance: Mapping[str, Any]
) -> None:
    """Write patients.json where patients have names, and then dataset.json, which makes the folder a dataset."""
    patients = {item.case: item.patient for item in items if item.patient is not None}
    if patients:
        write_json(root / "patients.json", patients)
    content = {
        "name": description.name,
        "channel_names": {str(number): name for number, name in enumerate(description.channels)},
        "labels": {name: value for value, name in enumerate(description.class_names)},
        "numTraining": len(items),
        "file_ending": ENDING,
        "imported": {
            **provenance,
            "normalised": description.normalised,
            "cropped_around_labels": description.oracle,
        },
    }
    write_json(root / "dataset.json", content)
