"""Synapse: the abdominal CT of "Beyond the Cranial Vault" (Landman et al., 2015), by the protocol of DHC and MICD."""

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
    "portal_and_splenic_veins",
    "pancreas",
    "right_adrenal_gland",
    "left_adrenal_gland",
)

_CASE = r"\d{4}"
_FIRST_TEST_SCAN = 61


class SynapseOptions(AbdomenOptions):
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


def _find_download(source: Path, options: SynapseOptions) -> Found:
    images = {match["case"]: path for match, path in files_like(source, rf"img(?P<case>{_CASE})\.nii\.gz")}
    labels = {match["case"]: path for match, path in files_like(source, rf"label(?P<case>{_CASE})\.nii\.gz")}
    unused = [case for case in images if int(case) >= _FIRST_TEST_SCAN and case not in labels]
    kept = {case: path for case, path in images.items() if case not in unused}
    found = pairs(kept, labels, "imgCASE.nii.gz", "labelCASE.nii.gz")
    notes = grid_notes(options)
    if unused:
        notes += (f"{len(unused)} test scan(s) without labels are left out: the papers do not use them",)
    return replace(found, notes=notes)


def _find_npy(source: Path, options: SynapseOptions) -> Found:
    return replace(find_npy(source, _CASE), notes=grid_notes(options))


def _describe(source: Path, layout: Layout, options: SynapseOptions) -> Description:
    return Description("Synapse", ("CT",), CLASSES, normalised=options.intensities == "window")


def _splits(cases: Sequence[str], options: SynapseOptions) -> Mapping[str, Split]:
    return list_budgets(official_lists("synapse")[options.lists])


IMPORTER = register(
    Importer(
        name="synapse",
        title="Synapse, multi-atlas labelling beyond the cranial vault: abdominal organs in CT (30 scans)",
        where="https://www.synapse.org/Synapse:syn3193805 (registration), Abdomen/RawData.zip",
        layouts=(
            Layout(
                "download",
                "img/imgNNNN.nii.gz and label/labelNNNN.nii.gz (or imagesTr and labelsTr)",
                _find_download,
                convert_nifti,
            ),
            Layout("npy files of DHC", "NNNN_image.npy and NNNN_label.npy", _find_npy, convert_npy),
        ),
        describe=_describe,
        splits=_splits,
        options=SynapseOptions,
        memory=3 << 30,
    )
)
