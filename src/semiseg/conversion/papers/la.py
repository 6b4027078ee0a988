"""Left atrium: the 2018 Atrial Segmentation Challenge, and the copy that UA-MT and its successors pass around."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from semiseg.conversion.papers.arrays import case_generator, crop_affine, zscore
from semiseg.conversion.papers.base import Description, Found, Importer, Item, Layout, Options, Scan, register
from semiseg.conversion.papers.file_patterns import files_like, with_labels
from semiseg.conversion.papers.official import Lists, budgets, official_lists
from semiseg.conversion.papers.reading import read_h5, read_pair
from semiseg.datasets.splits import Split
from semiseg.errors import InputError
from semiseg.scans.boxes import Spans, padded_box

Array = np.ndarray[Any, np.dtype[Any]]

SIZE = (112, 112, 80)
SPACING = 0.625
_ATRIUM = 255
_BUDGETS = (4, 8, 16)


class LAOptions(Options):
    """How scans of the challenge's own download are cropped; the copy that is passed around is cropped already."""

    crop: Literal["label", "none"] = Field(
        "label", description="label: around the atrium, as in the papers' files; none: whole scans"
    )
    seed: int = Field(
        0, ge=0, description="of the margins of the crop, which the papers drew at random and did not publish"
    )


def draw_margins(rng: np.random.Generator) -> tuple[int, ...]:
    """Margins before and after the atrium along x, y, z: 10 to 19 voxels, along z 5 to 9."""
    return tuple(int(rng.integers(low, high)) for low, high in ((10, 20), (10, 20), (5, 10)) for _ in range(2))


def atrium_box(mask: Array, size: Sequence[int], margins: Sequence[int]) -> Spans:
    """The kept part of a scan `[X, Y, Z]`: around the atrium along x and y, and all slices.

    Args:
        mask: the atrium.
        size: sides that the box has at least, nearly.
        margins: before and after along x, y, z; those along z are drawn, yet not used, as in the papers' script.
    """
    x, y, _ = padded_box(mask, size, list(zip(margins[::2], margins[1::2], strict=True)))
    return x, y, slice(0, mask.shape[2])


def _convert_download(item: Item, options: LAOptions) -> Scan:
    image, label, affine = read_pair(item)
    mask = label == _ATRIUM
    normalised = zscore(image)
    if options.crop == "none":
        return Scan(normalised[None], mask, affine)
    if not mask.any():
        raise InputError(f"{item.label}: expected an atrium (value {_ATRIUM}), came none: download it again")
    spans = atrium_box(mask, SIZE, draw_margins(case_generator(options.seed, item.case)))
    return Scan(normalised[spans][None], mask[spans], crop_affine(affine, spans))


def _convert_h5(item: Item, options: LAOptions) -> Scan:
    image, label = read_h5(item.images[0])
    return Scan(image[None], label, np.diag([SPACING] * 3 + [1.0]))


def _find_download(source: Path, options: LAOptions) -> Found:
    names = "CASE/lgemri.nrrd", "CASE/laendo.nrrd"
    return with_labels(source, r"(?P<case>[^/]+)/lgemri\.nrrd", r"(?P<case>[^/]+)/laendo\.nrrd", *names)


def _find_h5(source: Path, options: LAOptions) -> Found:
    files = files_like(source, r"(?P<case>[^/]+)/mri_norm2\.h5")
    note = f"the files record no spacing: {SPACING} mm along each axis, as the challenge's scans have"
    problem = (
        f"{source}: crop=none: expected the challenge's own download, came files that are cropped already: "
        "download it, or leave the option out"
    )
    problems = (problem,) if options.crop == "none" else ()
    return Found(tuple(Item(match["case"], (path,)) for match, path in files), problems, (note,))


def _describe(source: Path, layout: Layout, options: LAOptions) -> Description:
    oracle = layout is H5 or options.crop == "label"
    return Description("LA", ("LGE-MRI",), ("background", "left_atrium"), normalised=True, oracle=oracle)


def _splits(cases: Sequence[str], options: LAOptions) -> Mapping[str, Split]:
    lists = official_lists("la")
    return budgets(Lists(lists["train"], lists["test"], source=lists["source"]), _BUDGETS)


DOWNLOAD = Layout("download", "CASE/lgemri.nrrd and CASE/laendo.nrrd", _find_download, _convert_download)
H5 = Layout("HDF5 files of UA-MT", "CASE/mri_norm2.h5", _find_h5, _convert_h5)

IMPORTER = register(
    Importer(
        name="la",
        title="2018 Atrial Segmentation Challenge, left atrium in LGE-MRI (100 scans)",
        where="https://www.cardiacatlas.org/atriaseg2018-challenge (sign up; research use), or the preprocessed copy "
        "in https://github.com/yulequan/UA-MT, folder data/2018LA_Seg_Training Set",
        layouts=(H5, DOWNLOAD),
        describe=_describe,
        splits=_splits,
        options=LAOptions,
        memory=1 << 30,
    )
)
