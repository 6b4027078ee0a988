"""NIH Pancreas-CT, by either of the two preprocessing lines that published numbers come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from pydantic import Field

from semiseg.conversion.papers.abdominal_crop import coranet_box, mcnet_box, mcnet_scan, pad_to
from semiseg.conversion.papers.arrays import crop_affine, scale_affine, unit_range
from semiseg.conversion.papers.base import Description, Found, Importer, Item, Layout, Options, Scan, register
from semiseg.conversion.papers.file_patterns import files_like, pairs
from semiseg.conversion.papers.official import Lists, budgets, official_lists
from semiseg.conversion.papers.reading import check_shapes, read_h5, read_volume
from semiseg.conversion.papers.resampling import by_affine
from semiseg.datasets.splits import Split
from semiseg.errors import InputError
from semiseg.scans.grids import spacing_of

Array = np.ndarray[Any, np.dtype[Any]]

WINDOW = (-125.0, 275.0)
_BUDGETS = (6, 12)


class PancreasOptions(Options):
    """Which of the published preprocessings."""

    line: Literal["mcnet", "coranet"] = Field(
        "mcnet",
        description="mcnet: of MC-Net, ML-RPL, AD-MT, TraCoCo, DuCiSC, LeFeD; coranet: of CoraNet, FUSSNet, BCP; "
        "they differ in interpolation, crop, scale and lists of cases",
    )
    zoom: Literal["each", "first", "last"] = Field(
        "each",
        description="coranet line: resample each axis by its own spacing, or, as FUSSNet's copy of the script, all of "
        "them by that of the first or the last axis",
    )
    crop: Literal["label", "none"] = Field(
        "label", description="label: around the pancreas, test cases too, as published; none: whole scans"
    )
    label_axes: Literal["affine", "stored"] = Field(
        "affine",
        description="affine: turn a label to the axes of its scan as its header says; stored: take its voxels as "
        "they are stored",
    )


def mcnet_line(image: Array, label: Array, affine: Array, *, crop: bool = True) -> Scan:
    """1 mm by B-spline, window, crop in the slices, zero mean and unit variance of the crop.

    Args:
        image: HU `[X, Y, Z]`.
        label: pancreas where above 0, `[X, Y, Z]`.
        affine: voxels -> RAS+ mm.
        crop: around the label.
    """
    return mcnet_scan(image, label, affine, WINDOW, axes=(0, 1) if crop else ())


def coranet_line(image: Array, label: Array, affine: Array, zoom: Sequence[float], *, crop: bool = True) -> Scan:
    """1 mm trilinear, window, minimum to maximum of the volume as 0 to 1, crop along all axes, at least 96 voxels.

    Args:
        image: HU `[X, Y, Z]`.
        label: pancreas where above 0, `[X, Y, Z]`.
        affine: voxels -> RAS+ mm.
        zoom: sides of a voxel in mm as the script takes them.
        crop: around the label.
    """
    scaled = unit_range(np.clip(by_affine(image, zoom, label=False), *WINDOW))
    mask = by_affine(label > 0, zoom, label=True) > 0
    spans = coranet_box(mask) if crop and mask.any() else mcnet_box(mask, axes=())
    moved = crop_affine(scale_affine(affine, [1 / mm for mm in zoom]), spans)
    return Scan(pad_to(scaled[spans])[None], pad_to(mask[spans]), moved)


def _convert_download(item: Item, options: PancreasOptions) -> Scan:
    image, affine = read_volume(item.images[0])
    label, label_affine = read_volume(item.label_file)
    if options.label_axes == "affine":
        label = turned(label, label_affine, affine)
    check_shapes(item, image, label)
    if not (label > 0).any():
        raise InputError(f"{item.label}: expected a pancreas (values above 0), came none: download it again")
    crop = options.crop == "label"
    if options.line == "mcnet":
        return mcnet_line(image, label, affine, crop=crop)
    spacing = spacing_of(affine)
    chosen = {"each": spacing, "first": spacing[:1] * 3, "last": spacing[-1:] * 3}[options.zoom]
    return coranet_line(image, label, affine, chosen, crop=crop)


def turned(label: Array, own: Array, wanted: Array) -> Array:
    """`label` with axes permuted and flipped from the directions of affine `own` to those of `wanted`."""
    orientations: Any = nib.orientations
    steps = orientations.ornt_transform(orientations.io_orientation(own), orientations.io_orientation(wanted))
    return np.asarray(orientations.apply_orientation(label, steps))


def _convert_h5(item: Item, options: PancreasOptions) -> Scan:
    image, label = read_h5(item.images[0])
    return Scan(image[None], label, np.eye(4))


def _case(number: str) -> str:
    return f"image{int(number):04d}"


def _labels(source: Path) -> dict[str, Path]:
    return {_case(match["n"]): path for match, path in files_like(source, r"label_?(?P<n>\d{1,4})\.nii(\.gz)?")}


def _find_dicom(source: Path, options: PancreasOptions) -> Found:
    slices = files_like(source, r"PANCREAS_(?P<n>\d{4})/(?:.*/)?[^/]+\.dcm")
    folders = {path.parent: _case(match["n"]) for match, path in slices}
    series = {case: folder for folder, case in folders.items()}
    doubled = tuple(
        f"{folder}: expected one series of {case}, came another in {series[case]}: keep the one with the abdomen"
        for folder, case in folders.items()
        if series[case] != folder
    )
    found = pairs(series, _labels(source), "PANCREAS_* of CASE with its DICOM files", "the label file of CASE")
    return Found(found.items, (*found.problems, *doubled)) if series else Found()


def _find_nifti(source: Path, options: PancreasOptions) -> Found:
    files = files_like(source, r"(?:image|img|pancreas_?|PANCREAS_)(?P<n>\d{1,4})(?:_0000)?\.nii(\.gz)?")
    images = {_case(match["n"]): path for match, path in files}
    if not images:
        return Found()
    return pairs(images, _labels(source), "the scan of CASE (image0001.nii.gz)", "the label of CASE (label0001.nii.gz)")


def _find_h5(source: Path, options: PancreasOptions, pattern: str, line: str) -> Found:
    items = tuple(Item(_case(match["n"]), (path,)) for match, path in files_like(source, pattern))
    if not items:
        return Found()
    problems = []
    if options.line != line:
        problems.append(f"{source}: expected files of the {options.line} line, came those of {line}: set line={line}")
    if options.crop == "none":
        problems.append(f"{source}: crop=none: expected whole scans, came files that are cropped already: leave it out")
    return Found(items, tuple(problems), ("the files record no spacing: 1 mm, to which they were resampled",))


def _find_mcnet(source: Path, options: PancreasOptions) -> Found:
    return _find_h5(source, options, r"image(?P<n>\d{4})_norm\.h5", "mcnet")


def _find_coranet(source: Path, options: PancreasOptions) -> Found:
    return _find_h5(source, options, r"(?:data)?(?P<n>\d{4})\.h5", "coranet")


def _describe(source: Path, layout: Layout, options: PancreasOptions) -> Description:
    names = ("background", "pancreas")
    return Description("Pancreas-CT", ("CT",), names, normalised=True, oracle=options.crop == "label")


def _splits(cases: Sequence[str], options: PancreasOptions) -> Mapping[str, Split]:
    lists = official_lists("pancreas")[options.line]
    train, test = ([f"image{number:04d}" for number in lists[role]] for role in ("train", "test"))
    return budgets(Lists(train, test, source=lists["source"]), _BUDGETS)


_LABEL = "label0001.nii.gz"

IMPORTER = register(
    Importer(
        name="pancreas",
        title="NIH Pancreas-CT (82 abdominal scans)",
        where="https://www.cancerimagingarchive.net/collection/pancreas-ct (DICOM scans, and the labels as NIfTI; "
        "CC BY 3.0), or the preprocessed files that the repositories of the methods link to",
        layouts=(
            Layout("HDF5 files of MC-Net", "image0001_norm.h5", _find_mcnet, _convert_h5),
            Layout("HDF5 files of CoraNet", "0001.h5", _find_coranet, _convert_h5),
            Layout("download", f"PANCREAS_0001/STUDY/SERIES/*.dcm and {_LABEL}", _find_dicom, _convert_download),
            Layout("NIfTI", f"image0001.nii.gz (or PANCREAS_0001) and {_LABEL}", _find_nifti, _convert_download),
        ),
        describe=_describe,
        splits=_splits,
        options=PancreasOptions,
        memory=2 << 30,
    )
)
