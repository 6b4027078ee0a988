"""ACDC: cine MRI of the heart, two annotated frames of each patient (Bernard et al., IEEE TMI 2018).

Each volume is scaled to [0, 1] by its own range; nothing is resampled or cropped. The plan brings the slices to the
256 x 256 voxels that the papers train on (`slice_size`), so that labels are predicted and scored at the native size.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.conversion.papers.arrays import unit_range
from semiseg.conversion.papers.base import Description, Found, Importer, Item, Layout, Options, Scan, register
from semiseg.conversion.papers.file_patterns import by_case, files_like, with_labels
from semiseg.conversion.papers.official import Lists, budgets, official_lists
from semiseg.conversion.papers.reading import read_h5, read_volume
from semiseg.datasets.splits import Split
from semiseg.errors import InputError, raise_all

Array = np.ndarray[Any, np.dtype[Any]]

BUDGETS = (1, 3, 7, 14, 21, 28, 35)
_FRAMES = 2
_CASE = r"(?P<case>patient\d{3}_frame\d{2})"
_NO_SPACING = "the HDF5 copy holds no spacing: 1 mm is written, so distances in mm are in voxels"


def _find_download(source: Path, options: Options) -> Found:
    names = "CASE.nii.gz", "CASE_gt.nii.gz"
    found = with_labels(source, _CASE + r"\.nii(\.gz)?", _CASE + r"_gt\.nii(\.gz)?", *names)
    items = tuple(replace(item, patient=_patient(item.case)) for item in found.items)
    return replace(found, items=items, notes=_frames_missing(items))


def _from_nifti(item: Item, options: Options) -> Scan:
    image, affine = read_volume(item.images[0])
    return Scan(unit_range(image)[None], read_volume(item.label_file)[0], affine)


def _find_h5(source: Path, options: Options) -> Found:
    """Volumes, and slices of those cases of which there is no volume: training cases are passed around as slices."""
    volumes = by_case(source, _CASE + r"\.h5")
    slices: dict[str, dict[int, Path]] = defaultdict(dict)
    for match, path in files_like(source, _CASE + r"_slice_(?P<number>\d+)\.h5"):
        if match["case"] not in volumes:
            slices[match["case"]][int(match["number"])] = path
    files: dict[str, tuple[Path, ...]] = {case: (path,) for case, path in volumes.items()}
    files |= {case: tuple(numbered[number] for number in sorted(numbered)) for case, numbered in slices.items()}
    items = tuple(Item(case, paths, patient=_patient(case)) for case, paths in files.items())
    problems = [
        f"{source}: expected {case}_slice_{number}.h5, found slices after it: copy it again"
        for case, numbered in slices.items()
        for number in sorted(set(range(max(numbered))) - numbered.keys())
    ]
    return Found(items, tuple(problems), (_NO_SPACING, *_frames_missing(items)))


def _from_h5(item: Item, options: Options) -> Scan:
    """The values as they are in the file, `[S, H, W]`, or in one file `[H, W]` for each slice."""
    images: list[Array] = []
    labels: list[Array] = []
    problems: list[str] = []
    for path in item.images:
        try:
            image, label = read_h5(path)
            images.append(np.atleast_3d(image.T))
            labels.append(np.atleast_3d(label.T))
        except InputError as error:
            problems.extend(error.problems)
    shapes = sorted({array.shape[:2] for array in (*images, *labels)})
    if len(shapes) > 1:
        problems.append(
            f"{item.images[0]}: expected all slices of {item.case}, and their labels, of one shape, came "
            f"{', '.join(map(str, shapes))}: copy them again"
        )
    raise_all(problems)
    return Scan(np.concatenate(images, 2)[None], np.concatenate(labels, 2), np.eye(4))


def _patient(case: str) -> str:
    return case.split("_")[0]


def _frames_missing(items: Sequence[Item]) -> tuple[str, ...]:
    frames = Counter(item.patient for item in items)
    few = sorted(str(patient) for patient, count in frames.items() if count < _FRAMES)
    if not few:
        return ()
    names = ", ".join(few[:3]) + (", ..." if len(few) > 3 else "")
    return (f"{len(few)} patient(s) have fewer than the {_FRAMES} annotated frames ({names})",)


def _describe(source: Path, layout: Layout, options: Options) -> Description:
    names = ("background", "right_ventricle", "myocardium", "left_ventricle")
    return Description("ACDC", ("cine-MRI",), names, normalised=True)


def _splits(cases: Sequence[str], options: Options) -> Mapping[str, Split]:
    lists = official_lists("acdc")
    members: dict[str, list[str]] = defaultdict(list)
    for case in sorted(cases):
        members[_patient(case)].append(case)
    return budgets(
        Lists(lists["train"], lists["test"], lists["validation"], lists["source"], members, prefix="p"), BUDGETS
    )


IMPORTER = register(
    Importer(
        name="acdc",
        title="ACDC, Automated Cardiac Diagnosis Challenge (cine MRI)",
        where="https://www.creatis.insa-lyon.fr/Challenge/acdc/databases.html (registration); the HDF5 copy: "
        "github.com/HiLab-git/SSL4MIS, data/ACDC",
        layouts=(
            Layout(
                "download",
                "patientNNN/patientNNN_frameFF.nii.gz with patientNNN_frameFF_gt.nii.gz",
                _find_download,
                _from_nifti,
            ),
            Layout(
                "HDF5",
                "patientNNN_frameFF.h5, or patientNNN_frameFF_slice_K.h5, each with image and label",
                _find_h5,
                _from_h5,
            ),
        ),
        describe=_describe,
        splits=_splits,
        memory=1 << 28,
    )
)
