"""AMOS22: abdominal CT and MRI with 15 organs (Ji et al., 2022), by the protocol of DHC and MICD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from semiseg.conversion.papers.abdomen import (
    AbdomenOptions,
    convert_nifti,
    convert_npy,
    find_npy,
    grid_notes,
    list_budgets,
)
from semiseg.conversion.papers.base import Description, Found, Importer, Layout, register
from semiseg.conversion.papers.file_patterns import files_like, pairs
from semiseg.conversion.papers.official import official_lists
from semiseg.datasets.splits import Split

CLASSES = (
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
    "pancreas",
    "right_adrenal_gland",
    "left_adrenal_gland",
    "duodenum",
    "bladder",
    "prostate_uterus",
)

_CASE = r"amos_\d{4}"
_LAST_CT = 500


class AMOSOptions(AbdomenOptions):
    """How scans are brought to the papers' grid and intensities, and which scans."""

    grid: Literal["static", "native"] = Field(
        "static", description="static: every scan at 160 x 160 x 80 voxels, as the papers; native: as in the file"
    )
    modality: Literal["all", "ct"] = Field(
        "all",
        description="all: the published lists, 300 CT and 60 MRI scans; ct: without MRI, for the papers speak of CT",
    )


def _find_download(source: Path, options: AMOSOptions) -> Found:
    images = {match["case"]: path for match, path in files_like(source, rf"images(Tr|Va)/(?P<case>{_CASE})\.nii\.gz")}
    labels = {match["case"]: path for match, path in files_like(source, rf"labels(Tr|Va)/(?P<case>{_CASE})\.nii\.gz")}
    found = pairs(images, labels, "imagesTr/CASE.nii.gz", "labelsTr/CASE.nii.gz")
    unused = len(files_like(source, rf"imagesTs/{_CASE}\.nii\.gz"))
    if unused:
        note = f"{unused} scan(s) of imagesTs are left out: they have no labels, and the papers do not use them"
        found = replace(found, notes=(*found.notes, note))
    return _of_modality(found, options)


def _find_npy(source: Path, options: AMOSOptions) -> Found:
    return _of_modality(find_npy(source, _CASE), options)


def _of_modality(found: Found, options: AMOSOptions) -> Found:
    found = replace(found, notes=(*found.notes, *grid_notes(options)))
    if options.modality == "all":
        return found
    kept = tuple(item for item in found.items if int(item.case.removeprefix("amos_")) <= _LAST_CT)
    note = f"{len(found.items) - len(kept)} MRI scan(s) are left out"
    return replace(found, items=kept, notes=(*found.notes, note))


def _describe(source: Path, layout: Layout, options: AMOSOptions) -> Description:
    channel = "CT" if options.modality == "ct" else "CT or MRI"
    return Description("AMOS", (channel,), CLASSES, normalised=options.intensities == "window")


def _splits(cases: Sequence[str], options: AMOSOptions) -> Mapping[str, Split]:
    return list_budgets(official_lists("amos"))


IMPORTER = register(
    Importer(
        name="amos",
        title="AMOS22, abdominal organs in CT and MRI (360 labelled scans)",
        where="https://zenodo.org/records/7262581, amos22.zip",
        layouts=(
            Layout(
                "download",
                "imagesTr/amos_NNNN.nii.gz and labelsTr/amos_NNNN.nii.gz, likewise imagesVa and labelsVa",
                _find_download,
                convert_nifti,
            ),
            Layout("npy files of DHC", "amos_NNNN_image.npy and amos_NNNN_label.npy", _find_npy, convert_npy),
        ),
        describe=_describe,
        splits=_splits,
        options=AMOSOptions,
        memory=3 << 30,
    )
)
