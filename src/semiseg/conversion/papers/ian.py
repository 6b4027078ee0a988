"""Inferior alveolar nerve in cone-beam CT (ToothFairy), as DuCiSC uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field

from semiseg.conversion.papers.arrays import zscore
from semiseg.conversion.papers.base import Description, Found, Importer, Item, Layout, Options, Scan, register
from semiseg.conversion.papers.file_patterns import by_case, files_like
from semiseg.conversion.papers.official import SEEDED_NOTE, seeded_budgets
from semiseg.conversion.papers.reading import read_h5, read_npy
from semiseg.datasets.splits import Split

Array = np.ndarray[Any, np.dtype[Any]]

SPACING = 0.3
CASES, TEST_CASES = 110, 20
_BUDGETS = (9, 18)


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= value[0] < value[1] <= 100:
        raise ValueError(f"expected two rising percentages, came {list(value)}")
    return value


class IANOptions(Options):
    """What the paper leaves open: nothing of its preprocessing and no list of cases is published."""

    clip: Annotated[tuple[float, float], AfterValidator(_ordered)] = Field(
        (0.5, 99.5), description="percentiles of a scan to which its intensities are clipped"
    )
    axes: Literal["zyx", "xyz"] = Field(
        "zyx",
        description="order of the axes in the written files: zyx as in the arrays of the download, in which the "
        "paper gives its sizes, or xyz",
    )
    seed: int = Field(0, ge=0, description="of the choice of 110 scans and of their order")


def normalise(image: Array, clip: tuple[float, float]) -> Array:
    """`image` clipped to its percentiles `clip`, with zero mean and unit variance, float32."""
    low, high = np.percentile(image, clip)
    return zscore(np.clip(image, low, high))


def canal(label: Array) -> Array:
    """The canal as 0 and 1; negative values, which mark what nobody labelled, become background."""
    return (label > 0).astype(np.uint8)


def _convert_download(item: Item, options: IANOptions) -> Scan:
    image = read_npy(item.images[0])
    return _scan(normalise(image, options.clip), canal(read_npy(item.label_file)), options.axes)


def _convert_h5(item: Item, options: IANOptions) -> Scan:
    image, label = read_h5(item.images[0])
    return _scan(image, canal(label), options.axes)


def _scan(image: Array, label: Array, axes: str) -> Scan:
    affine = np.diag([SPACING] * 3 + [1.0])
    if axes == "zyx":
        return Scan(image[None], label, affine[:, [2, 1, 0, 3]])
    return Scan(image.transpose(2, 1, 0)[None], label.transpose(2, 1, 0), affine)


_SPACING_NOTE = f"the files record no spacing: {SPACING} mm along each axis, as published"


def _find_download(source: Path, options: IANOptions) -> Found:
    images = by_case(source, r"(?P<case>P\d+)/data\.npy")
    labels = by_case(source, r"(?P<case>P\d+)/gt_alpha\.npy")
    problems = tuple(
        f"{path}: expected {case}/data.npy as well, found none: download it again, or take this file away"
        for case, path in labels.items()
        if case not in images
    )
    items = tuple(Item(case, (path,), labels[case]) for case, path in images.items() if case in labels)
    if images and not items:
        problems = (f"{source}: expected dense labels (CASE/gt_alpha.npy) of some scans, found none: add them",)
    sparse = [case for case in images if case not in labels]
    left_out = (f"{len(sparse)} scan(s) without dense labels (gt_alpha.npy) are left out",) if sparse else ()
    return Found(items, problems, (_SPACING_NOTE, SEEDED_NOTE, *left_out))


def _find_h5(source: Path, options: IANOptions) -> Found:
    files = files_like(source, r"(?P<case>[^/]+)\.h5")
    return Found(tuple(Item(match["case"], (path,)) for match, path in files), notes=(_SPACING_NOTE, SEEDED_NOTE))


def _describe(source: Path, layout: Layout, options: IANOptions) -> Description:
    return Description("IAN", ("CBCT",), ("background", "inferior_alveolar_canal"), normalised=True)


def _splits(cases: Sequence[str], options: IANOptions) -> Mapping[str, Split]:
    return seeded_budgets(cases, options.seed, TEST_CASES / CASES, _BUDGETS, at_most=CASES)


IMPORTER = register(
    Importer(
        name="ian",
        title="Inferior alveolar nerve in cone-beam CT, ToothFairy (153 scans with dense labels)",
        where="https://toothfairy.grand-challenge.org (sign up; CC BY-SA)",
        layouts=(
            Layout("download", "P1/data.npy and P1/gt_alpha.npy (the dense label)", _find_download, _convert_download),
            Layout("HDF5 files of DuCiSC", "CASE.h5 with image and label", _find_h5, _convert_h5),
        ),
        describe=_describe,
        splits=_splits,
        options=IANOptions,
        memory=1 << 30,
    )
)
