"""Lung tumours: Task06 of the Medical Segmentation Decathlon, as LeFeD uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from semiseg.conversion.papers.abdominal_crop import mcnet_box
from semiseg.conversion.papers.arrays import crop_affine, scale_affine, window, zscore
from semiseg.conversion.papers.base import Description, Found, Importer, Item, Layout, Options, Scan, register
from semiseg.conversion.papers.file_patterns import files_like, pairs
from semiseg.conversion.papers.official import Lists, budgets, shuffled
from semiseg.conversion.papers.reading import read_volume
from semiseg.conversion.papers.resampling import by_bspline
from semiseg.datasets.splits import Split
from semiseg.errors import InputError
from semiseg.scans.grids import spacing_of

Array = np.ndarray[Any, np.dtype[Any]]

WINDOW = (-500.0, 275.0)
TEST_CASES, CASES = 13, 63
_BUDGETS = (10, 15)


class LungOptions(Options):
    """What the paper leaves open."""

    crop: Literal["all", "in_plane", "none"] = Field(
        "all",
        description="around the tumour with a margin of 25 voxels, test cases too: along all axes, or within slices "
        "only as for the pancreas; none: whole scans",
    )
    seed: int = Field(0, ge=0, description="of the order of the cases: the paper's list is not published")


def lefed_scan(image: Array, label: Array, affine: Array, crop: str = "all") -> Scan:
    """1 mm by B-spline, window, crop around all label voxels, zero mean and unit variance of the crop.

    Args:
        image: HU `[X, Y, Z]`.
        label: tumour where above 0, `[X, Y, Z]`.
        affine: voxels -> RAS+ mm.
        crop: see `LungOptions`.
    """
    spacing = spacing_of(affine)
    mask = by_bspline(label > 0, spacing, label=True) > 0
    spans = mcnet_box(mask, axes={"all": (0, 1, 2), "in_plane": (0, 1), "none": ()}[crop])
    scaled = window(by_bspline(image, spacing, label=False, keep=spans), *WINDOW)
    moved = crop_affine(scale_affine(affine, [1 / mm for mm in spacing]), spans)
    return Scan(zscore(scaled)[None], mask[spans], moved)


def _convert(item: Item, options: LungOptions) -> Scan:
    image, affine = read_volume(item.images[0])
    label, _ = read_volume(item.label_file)
    if label.shape != image.shape:
        raise InputError(f"{item.label}: expected the shape of {item.images[0].name}, came another: download it again")
    if not (label > 0).any():
        raise InputError(f"{item.label}: expected a tumour (values above 0), came none: download it again")
    return lefed_scan(image, label, affine, options.crop)


def _find(source: Path, options: LungOptions) -> Found:
    pattern = r"(?P<case>lung_\d+)\.nii(\.gz)?"
    images = {match["case"]: path for match, path in files_like(source, f"imagesTr/{pattern}")}
    labels = {match["case"]: path for match, path in files_like(source, f"labelsTr/{pattern}")}
    found = pairs(images, labels, "imagesTr/CASE.nii.gz", "labelsTr/CASE.nii.gz")
    return Found(found.items, found.problems, ("the paper's list of cases is not published: a seeded one is written",))


def _describe(source: Path, layout: Layout, options: LungOptions) -> Description:
    names = ("background", "tumour")
    return Description("LungTumour", ("CT",), names, normalised=True, oracle=options.crop != "none")


def _splits(cases: Sequence[str], options: LungOptions) -> Mapping[str, Split]:
    order = shuffled(cases, options.seed)
    test = round(len(order) * TEST_CASES / CASES)
    train = len(order) - test
    source = f"cases shuffled with seed {options.seed}, {train} for training and {test} for test; no list is published"
    return budgets(Lists(order[:train], order[train:], source=source), [n for n in _BUDGETS if n < train])


IMPORTER = register(
    Importer(
        name="lung_tumor",
        title="Lung tumours in CT, Medical Segmentation Decathlon Task06 (63 scans)",
        where="http://medicaldecathlon.com, Task06_Lung.tar (CC BY-SA 4.0)",
        layouts=(
            Layout("download", "imagesTr/lung_001.nii.gz and labelsTr/lung_001.nii.gz of Task06_Lung", _find, _convert),
        ),
        describe=_describe,
        splits=_splits,
        options=LungOptions,
        memory=4 << 30,
    )
)
