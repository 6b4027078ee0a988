"""Lung tumours: Task06 of the Medical Segmentation Decathlon, as LeFeD uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from semiseg.conversion.papers.abdominal_crop import mcnet_scan
from semiseg.conversion.papers.base import Description, Found, Importer, Item, Layout, Options, Scan, register
from semiseg.conversion.papers.file_patterns import with_labels
from semiseg.conversion.papers.official import SEEDED_NOTE, seeded_budgets
from semiseg.conversion.papers.reading import read_pair
from semiseg.datasets.splits import Split
from semiseg.errors import InputError

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
    axes = {"all": (0, 1, 2), "in_plane": (0, 1), "none": ()}[crop]
    return mcnet_scan(image, label, affine, WINDOW, axes)


def _convert(item: Item, options: LungOptions) -> Scan:
    image, label, affine = read_pair(item)
    if not (label > 0).any():
        raise InputError(f"{item.label}: expected a tumour (values above 0), came none: download it again")
    return lefed_scan(image, label, affine, options.crop)


def _find(source: Path, options: LungOptions) -> Found:
    pattern = r"(?P<case>lung_\d+)\.nii(\.gz)?"
    names = "imagesTr/CASE.nii.gz", "labelsTr/CASE.nii.gz"
    found = with_labels(source, f"imagesTr/{pattern}", f"labelsTr/{pattern}", *names)
    return Found(found.items, found.problems, (SEEDED_NOTE,))


def _describe(source: Path, layout: Layout, options: LungOptions) -> Description:
    names = ("background", "tumour")
    return Description("LungTumour", ("CT",), names, normalised=True, oracle=options.crop != "none")


def _splits(cases: Sequence[str], options: LungOptions) -> Mapping[str, Split]:
    return seeded_budgets(cases, options.seed, TEST_CASES / CASES, _BUDGETS)


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
