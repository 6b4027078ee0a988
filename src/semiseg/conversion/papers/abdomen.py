"""AMOS (Ji et al., 2022) and Synapse (Landman et al., 2015): abdominal organs, by the protocol of DHC and MICD.

One fixed grid for all scans, one window of intensities. Code of reference: xmed-lab/DHC and xmed-lab/GenericSSL. No
axis is turned and no spacing is looked at; the order of axes does not matter, for grids are given in the order of the
array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from semiseg.conversion.papers.arrays import unit_range
from semiseg.conversion.papers.base import Description, Found, Importer, Item, Layout, Options, Scan, register
from semiseg.conversion.papers.file_patterns import by_case, files_like, pairs, with_labels
from semiseg.conversion.papers.official import Lists, budgets, official_lists
from semiseg.conversion.papers.reading import read_npy, read_volume
from semiseg.datasets.splits import Split

Array = np.ndarray[Any, np.dtype[Any]]

_ORGANS = (
    "background",
    "spleen",
    "right_kidney",
    "left_kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
)
_ADRENALS = ("right_adrenal_gland", "left_adrenal_gland")
AMOS_CLASSES = (*_ORGANS, "pancreas", *_ADRENALS, "duodenum", "bladder", "prostate_uterus")
SYNAPSE_CLASSES = (*_ORGANS, "portal_and_splenic_veins", "pancreas", *_ADRENALS)
_AMOS_CASE, _SYNAPSE_CASE = r"amos_\d{4}", r"\d{4}"
_LAST_CT, _FIRST_TEST_SCAN = 500, 61

WINDOW = (-75.0, 275.0)
"""Intensities beyond it are clipped: Hounsfield units for CT; the papers treat MRI alike."""

STATIC_GRID = (160, 160, 80)
"""Voxels along x, y and z of every resized scan: a patch of 128 x 128 x 64 and a quarter more."""


def resize_image(image: Array, sides: Sequence[int]) -> Array:
    """`image` `[A, B, C]` on a grid of `sides`, float32: trilinear, half-pixel centres, no smoothing."""
    import torch  # here, because listing the datasets should not wait for it

    source = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None, None]
    scaled = torch.nn.functional.interpolate(source, size=tuple(sides), mode="trilinear", align_corners=False)
    return np.asarray(scaled[0, 0].numpy())


def resize_label(label: Array, sides: Sequence[int]) -> Array:
    """`label` `[A, B, C]` on a grid of `sides`, dtype kept: voxel i of n reads voxel floor(i m / n) of m, as torch."""
    for axis, side in enumerate(sides):
        scale = np.float32(label.shape[axis] / side)  # its rounding decides where i m / n is a whole number
        voxels = np.floor(np.arange(side, dtype=np.float32) * scale).astype(np.intp)
        label = np.take(label, np.minimum(voxels, label.shape[axis] - 1), axis=axis)
    return label


def scale_window(image: Array, window: tuple[float, float] = WINDOW) -> Array:
    """`image` clipped to `window`, then to [0, 1] by the clipped volume's own range; float32, a constant becomes 0."""
    return unit_range(np.clip(np.asarray(image, dtype=np.float32), *window))


def halved(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """`shape` with half as many voxels along `axes`: the in-plane grid of the present DHC code for Synapse."""
    return tuple(side // 2 if axis in axes else side for axis, side in enumerate(shape))


def regrid_affine(affine: Array, old: Sequence[int], new: Sequence[int]) -> Array:
    """Affine `[4, 4]` of a scan of `old` voxels after its field of view was divided into `new` voxels."""
    factors = np.array(old) / np.array(new)
    moved = np.array(affine, dtype=np.float64)
    moved[:3, :3] = affine[:3, :3] * factors
    moved[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((factors - 1) / 2)
    return moved


class _AbdomenOptions(Options):
    grid: str
    intensities: Literal["window", "raw"] = Field(
        "window", description="window: clipped to -75 ... 275 and scaled to 0 ... 1, as the papers; raw: as in the file"
    )
    spacing: Literal["voxel", "scan"] = Field(
        "voxel",
        description="of resized scans. voxel: 1 mm, so that nothing is resampled again and distances count voxels of "
        "the grid, as in the papers; scan: the scan's own, divided anew",
    )


class AMOSOptions(_AbdomenOptions):
    """How scans are brought to the papers' grid and intensities, and which scans."""

    grid: Literal["static", "native"] = Field(
        "static", description="static: every scan at 160 x 160 x 80 voxels, as the papers; native: as in the file"
    )
    modality: Literal["all", "ct"] = Field(
        "all",
        description="all: the published lists, 300 CT and 60 MRI scans; ct: without MRI, for the papers speak of CT",
    )


class SynapseOptions(_AbdomenOptions):
    """How scans are brought to the papers' grid and intensities, and by whose lists."""

    grid: Literal["static", "halved", "native"] = Field(
        "static",
        description="static: every scan at 160 x 160 x 80 voxels, as the authors say; halved: x and y halved after "
        "clipping, as the present code of DHC; native: as in the file",
    )
    lists: Literal["synapse_b", "synapse_a"] = Field(
        "synapse_b",
        description="DHC published its test list only. synapse_b: yinguanchun/SKCDF, 10, 20 and 40 percent; synapse_a: "
        "xmed-lab/GenericSSL, of DHC's authors, 20 percent",
    )


def grid_notes(options: _AbdomenOptions) -> tuple[str, ...]:
    """What the user should know of the spacing of resized scans."""
    if options.grid == "native" or options.spacing == "scan":
        return ()
    return ("resized scans get voxels of 1 mm, so distances count voxels of the grid; spacing=scan keeps millimetres",)


def to_grid(image: Array, label: Array, affine: Array, options: _AbdomenOptions) -> Scan:
    """A scan `[X, Y, Z]` on the grid `static`, `halved` or `native` of `options`, intensities as they say.

    The static grid is made of raw intensities, which are clipped afterwards; halving comes after clipping, as the
    public code has it.
    """
    window = options.intensities == "window"
    sides = {"static": STATIC_GRID, "native": image.shape, "halved": halved(image.shape, (0, 1))}[options.grid]
    if options.grid == "halved" and window:
        image = scale_window(image)
    if sides != image.shape:
        unit = options.spacing == "voxel"
        affine = np.eye(4) if unit else regrid_affine(affine, image.shape, sides)
        image, label = resize_image(image, sides), resize_label(label, sides)
    if options.grid != "halved" and window:
        image = scale_window(image)
    return Scan(image[None], label, affine)


def convert_nifti(item: Item, options: _AbdomenOptions) -> Scan:
    """A scan of the download."""
    image, affine = read_volume(item.images[0])
    return to_grid(image, read_volume(item.label_file)[0], affine, options)


def convert_npy(item: Item, options: _AbdomenOptions) -> Scan:
    """A scan of the copy in npy files, `[Z, Y, X]`, at any size; it has no spacing, and 1 mm is written."""
    return to_grid(read_npy(item.images[0]).T, read_npy(item.label_file).T, np.eye(4), options)


def _find_npy(source: Path, case: str) -> Found:
    images, labels = (rf"(?P<case>{case})_{kind}\.npy" for kind in ("image", "label"))
    return with_labels(source, images, labels, "CASE_image.npy", "CASE_label.npy")


def _find_amos(source: Path, options: AMOSOptions) -> Found:
    images, labels = (rf"{kind}(Tr|Va)/(?P<case>{_AMOS_CASE})\.nii\.gz" for kind in ("images", "labels"))
    found = with_labels(source, images, labels, "imagesTr/CASE.nii.gz", "labelsTr/CASE.nii.gz")
    unused = len(files_like(source, rf"imagesTs/{_AMOS_CASE}\.nii\.gz"))
    if unused:
        note = f"{unused} scan(s) of imagesTs are left out: they have no labels, and the papers do not use them"
        found = replace(found, notes=(*found.notes, note))
    return _of_modality(found, options)


def _find_amos_npy(source: Path, options: AMOSOptions) -> Found:
    return _of_modality(_find_npy(source, _AMOS_CASE), options)


def _of_modality(found: Found, options: AMOSOptions) -> Found:
    found = replace(found, notes=(*found.notes, *grid_notes(options)))
    if options.modality == "all":
        return found
    kept = tuple(item for item in found.items if int(item.case.removeprefix("amos_")) <= _LAST_CT)
    note = f"{len(found.items) - len(kept)} MRI scan(s) are left out"
    return replace(found, items=kept, notes=(*found.notes, note))


def _find_synapse(source: Path, options: SynapseOptions) -> Found:
    images = by_case(source, rf"img(?P<case>{_SYNAPSE_CASE})\.nii\.gz")
    labels = by_case(source, rf"label(?P<case>{_SYNAPSE_CASE})\.nii\.gz")
    unused = [case for case in images if int(case) >= _FIRST_TEST_SCAN and case not in labels]
    kept = {case: path for case, path in images.items() if case not in unused}
    found = pairs(kept, labels, "imgCASE.nii.gz", "labelCASE.nii.gz")
    notes = grid_notes(options)
    if unused:
        notes += (f"{len(unused)} test scan(s) without labels are left out: the papers do not use them",)
    return replace(found, notes=notes)


def _find_synapse_npy(source: Path, options: SynapseOptions) -> Found:
    return replace(_find_npy(source, _SYNAPSE_CASE), notes=grid_notes(options))


def _describe_amos(source: Path, layout: Layout, options: AMOSOptions) -> Description:
    channel = "CT" if options.modality == "ct" else "CT or MRI"
    return Description("AMOS", (channel,), AMOS_CLASSES, normalised=options.intensities == "window")


def _describe_synapse(source: Path, layout: Layout, options: SynapseOptions) -> Description:
    return Description("Synapse", ("CT",), SYNAPSE_CLASSES, normalised=options.intensities == "window")


def list_budgets(lists: Mapping[str, Any]) -> dict[str, Split]:
    """Split files of each published labelled list; the lists are draws of their own, none is part of another."""
    found: dict[str, Split] = {}
    for name, labelled in lists.items():
        if name.startswith("labelled"):
            order = [*labelled, *(case for case in lists["train"] if case not in labelled)]
            source = f"{lists['source']}, {name}"
            found |= budgets(Lists(order, lists["test"], lists["validation"], source), (len(labelled),))
    return found


register(
    Importer(
        name="amos",
        title="AMOS22, abdominal organs in CT and MRI (360 labelled scans)",
        where="https://zenodo.org/records/7262581, amos22.zip",
        layouts=(
            Layout(
                "download",
                "imagesTr/amos_NNNN.nii.gz and labelsTr/amos_NNNN.nii.gz, likewise imagesVa and labelsVa",
                _find_amos,
                convert_nifti,
            ),
            Layout("npy files of DHC", "amos_NNNN_image.npy and amos_NNNN_label.npy", _find_amos_npy, convert_npy),
        ),
        describe=_describe_amos,
        splits=lambda cases, options: list_budgets(official_lists("amos")),
        options=AMOSOptions,
        memory=3 << 30,
    )
)
register(
    Importer(
        name="synapse",
        title="Synapse, multi-atlas labelling beyond the cranial vault: abdominal organs in CT (30 scans)",
        where="https://www.synapse.org/Synapse:syn3193805 (registration), Abdomen/RawData.zip",
        layouts=(
            Layout(
                "download",
                "img/imgNNNN.nii.gz and label/labelNNNN.nii.gz (or imagesTr and labelsTr)",
                _find_synapse,
                convert_nifti,
            ),
            Layout("npy files of DHC", "NNNN_image.npy and NNNN_label.npy", _find_synapse_npy, convert_npy),
        ),
        describe=_describe_synapse,
        splits=lambda cases, options: list_budgets(official_lists("synapse")[options.lists]),
        options=SynapseOptions,
        memory=3 << 30,
    )
)
