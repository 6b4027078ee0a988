"""BraTS 2019, whole tumour from FLAIR, as URPC and SSL4MIS use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.conversion.papers.arrays import crop_affine
from semiseg.conversion.papers.base import Description, Found, Importer, Item, Layout, Options, Scan, register
from semiseg.conversion.papers.file_patterns import files_like, with_labels
from semiseg.conversion.papers.official import Lists, budgets, official_lists
from semiseg.conversion.papers.reading import read_h5, read_pair
from semiseg.datasets.splits import Split
from semiseg.errors import InputError
from semiseg.scans.boxes import Spans, bounds

Array = np.ndarray[Any, np.dtype[Any]]

_SHARE = 0.999
_BINS = 256
_BUDGETS = (25, 50)
_CASE = r"(?P<case>BraTS19_[A-Za-z0-9]+_[A-Za-z0-9]+_\d+)"


def brain_box(flair: Array) -> Spans:
    """The part of a scan that is not zero; the last plane that is not zero is lost along each axis, as published."""
    first, last = bounds(flair != 0)
    return tuple(slice(start, stop) for start, stop in zip(first, last, strict=True))


def clip_top(values: Array, share: float = _SHARE) -> Array:
    """`values` with the brightest voxels set to the level that at least `share` of all voxels do not exceed.

    The level is a grey value of integer volumes, and the centre of one of 256 equal bins of other volumes.
    """
    if values.dtype.kind in "iu":
        levels, counts = np.unique(values, return_counts=True)
    else:
        counts, edges = np.histogram(values, bins=_BINS)
        levels = (edges[:-1] + edges[1:]) / 2
    cumulative = np.cumsum(counts) / values.size
    return np.asarray(np.minimum(values, levels[np.argmax(cumulative >= share)]))


def scale_by_brain(values: Array) -> Array:
    """All voxels minus mean, over standard deviation, of those above zero; float32, and the background is not zero."""
    brain = values[values > 0].astype(np.float64)
    mean, std = (brain.mean(), brain.std()) if brain.size else (0.0, 1.0)
    return np.asarray((values - mean) / (std or 1.0), dtype=np.float32)


def whole_tumour(flair: Array, segmentation: Array) -> tuple[Array, Array, Spans]:
    """Image (float32), label (0, 1) and box of one case; arrays in any common order of axes."""
    box = brain_box(flair)
    return scale_by_brain(clip_top(flair[box])), (segmentation[box] > 0).astype(np.uint8), box


def _convert_download(item: Item, options: Options) -> Scan:
    flair, segmentation, affine = read_pair(item)
    flair, segmentation, affine = flair.T, segmentation.T, affine[:, [2, 1, 0, 3]]
    if not flair.any() or not flair[brain_box(flair)].size:
        raise InputError(f"{item.images[0]}: expected a brain, came fewer than two planes that are not zero")
    image, label, box = whole_tumour(flair, segmentation)
    return Scan(image[None], label, crop_affine(affine, box))


def _convert_h5(item: Item, options: Options) -> Scan:
    image, label = read_h5(item.images[0])
    return Scan(image[None], label, np.eye(4)[:, [2, 1, 0, 3]])


def _find_download(source: Path, options: Options) -> Found:
    names = "CASE_flair.nii.gz", "CASE_seg.nii.gz"
    return with_labels(source, rf"{_CASE}_flair\.nii(\.gz)?", rf"{_CASE}_seg\.nii(\.gz)?", *names)


def _find_h5(source: Path, options: Options) -> Found:
    items = tuple(Item(match["case"], (path,)) for match, path in files_like(source, rf"{_CASE}\.h5"))
    notes = (
        "the files record no spacing: 1 mm, as all scans of BraTS have",
        "their axes are taken as (slice, row, column), the order in which the published script works",
    )
    return Found(items, notes=notes)


def _describe(source: Path, layout: Layout, options: Options) -> Description:
    return Description("BraTS2019", ("FLAIR",), ("background", "whole_tumour"), normalised=True)


def _splits(cases: Sequence[str], options: Options) -> Mapping[str, Split]:
    lists = official_lists("brats2019")
    return budgets(Lists(lists["train"], lists["test"], lists["validation"], lists["source"]), _BUDGETS)


IMPORTER = register(
    Importer(
        name="brats2019",
        title="BraTS 2019, whole tumour from FLAIR (335 brain MRI)",
        where="https://www.med.upenn.edu/cbica/brats2019/registration.html (training data; sign up, research use), or "
        "the HDF5 files that https://github.com/HiLab-git/SSL4MIS links to",
        layouts=(
            Layout("HDF5 files of SSL4MIS", "BraTS19_CBICA_AAB_1.h5", _find_h5, _convert_h5),
            Layout(
                "download",
                "HGG/CASE/CASE_flair.nii.gz and CASE_seg.nii.gz, with cases such as BraTS19_CBICA_AAB_1",
                _find_download,
                _convert_download,
            ),
        ),
        describe=_describe,
        splits=_splits,
        memory=1 << 30,
    )
)
