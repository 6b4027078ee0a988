"""Generated patients: abdomen-like cohorts of any size, for demonstrations, tests and benchmarks.

No download and no real scan is needed to try a method: the organs of the AMOS challenge, whose sizes span three
orders of magnitude, vary in place, size, shape and grey value from patient to patient as they do in a clinic, while
every label can be told from the image. Case i depends on (seed, i) and the settings of the scan alone.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from semiseg.errors import InputError
from semiseg.phantom.anatomy import FIELD_OF_VIEW, abdomen, axial_section, chosen
from semiseg.phantom.painting import Painting
from semiseg.phantom.shapes import Array, Canvas, smooth_field, vary
from semiseg.phantom.tissues import draw_look, scan
from semiseg.system.files import replacing, write_json

_Side = Annotated[int, Field(ge=12, le=512)]
THICKNESS = 5.0
"""Thickness of a two-dimensional picture, mm."""

_SETTINGS = "phantom.json"


class PhantomConfig(BaseModel):
    """A cohort of CT scans; the grid always holds the whole life-sized abdomen, whatever its shape."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, description="cohorts of different seeds share no patient")
    shape: tuple[_Side, ...] = Field((48, 48, 48), description="voxels per axis (x, y[, z]); two axes make 2D cases")
    organs: int = Field(5, ge=1, le=15, description="labelled organs; the others are there, without a label")
    labelled: int = Field(3, ge=0, description="training cases with a label file")
    unlabelled: int = Field(20, ge=0, description="training cases without")
    validation: int = Field(0, ge=0, description="validation cases, with labels")
    test: int = Field(8, ge=0, description="test cases, with labels")

    @field_validator("shape")
    @classmethod
    def _plane_or_space(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) not in (2, 3):
            raise ValueError(f"shape needs two or three sides, got {len(shape)}")
        return shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by label value, background first."""
        return ("background", *chosen(self.organs))

    @property
    def roles(self) -> dict[str, range]:
        """Case indices by role; the training cases come first, so that test cases stay when labels are added."""
        counts = {name: getattr(self, name) for name in ("labelled", "unlabelled", "validation", "test")}
        ends = np.cumsum(list(counts.values())).tolist()
        return {name: range(end - counts[name], end) for name, end in zip(counts, ends, strict=True)}


@dataclass(frozen=True)
class PhantomCase:
    """One patient: `image` `[X, Y, Z]` int16 in HU, `label` `[X, Y, Z]` uint8, `spacing` in mm; Z is 1 for 2D."""

    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    spacing: tuple[float, float, float]


def case_id(index: int) -> str:
    """File name stem of case `index`."""
    return f"phantom_{index:03d}"


def make_case(config: PhantomConfig, index: int) -> PhantomCase:
    """Draw patient `index` of the cohort; a pure function of the scan's settings and (seed, index)."""
    streams = np.random.SeedSequence(config.seed, spawn_key=(index,)).spawn(3)
    rng, look_rng, scan_rng = (np.random.Generator(np.random.Philox(stream)) for stream in streams)
    x, y, z = (*config.shape, 1) if len(config.shape) == 2 else config.shape
    width, depth, height = FIELD_OF_VIEW
    spacing = width / x, depth / y, THICKNESS if z == 1 else height / z
    sides = np.multiply(spacing, np.exp(rng.normal(0, 0.04, 3))).astype(np.float32)
    painting = Painting(_canvas(rng, (x, y, z), sides), draw_look(look_rng), config.class_names)
    painting.body(rng)
    for group in abdomen(rng) if z > 1 else axial_section(rng):
        painting.group(vary(group, rng))
    painting.keep_visible()
    image = scan(scan_rng, painting.grey, painting.texture, sides)
    return PhantomCase(np.rint(image).astype(np.int16), painting.label, spacing)


def _canvas(rng: np.random.Generator, shape: tuple[int, int, int], sides: Array) -> Canvas:
    """The patient's warped coordinates; `sides` are those of a voxel in millimetres of the reference body."""
    x, y, z = (((np.arange(n) - (n - 1) / 2) * side).astype(np.float32) for n, side in zip(shape, sides, strict=True))
    warp = np.zeros((3, *shape), dtype=np.float32)
    for strengths, knots in (((9.0, 7.0, 9.0), (3, 3, 3)), ((3.0, 2.5, 3.0), (8, 6, 8))):
        for axis, strength in enumerate(strengths):
            if shape[axis] > 1:
                warp[axis] += smooth_field(rng, shape, knots) * np.float32(strength)
    return Canvas((x, y, z), warp)


def make_cohort(output: Path, config: PhantomConfig) -> Path:
    """Write a cohort as a dataset folder in nnU-Net's raw layout; returns `output`.

    All images are in `imagesTr`, labels of labelled, validation and test cases in `labelsTr`, and the roles in
    `splits/demo.json`. `dataset.json` comes last, so a folder without it is unfinished; the same call completes it,
    and leaves a complete cohort as it is.

    Args:
        output: folder to make.
        config: the cohort.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """
    output = Path(output)
    _claim(output, config)
    if not (output / "dataset.json").is_file():
        for role, indices in config.roles.items():
            for index in indices:
                _write_case(output, config, role, index)
        split = {role: [case_id(index) for index in indices] for role, indices in config.roles.items()}
        write_json(output / "splits" / "demo.json", split)
        write_json(output / "dataset.json", _description(config))
    return output


def _claim(output: Path, config: PhantomConfig) -> None:
    settings, wanted = output / _SETTINGS, config.model_dump(mode="json")
    if settings.is_file():
        if json.loads(settings.read_text(encoding="utf-8")) != wanted:
            raise InputError(f"{output}: holds a cohort with other settings ({_SETTINGS}): choose another folder")
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: expected a new or empty folder, found other files: choose another folder")
    else:
        write_json(settings, wanted)


def _description(config: PhantomConfig) -> dict[str, Any]:
    return {
        "name": "phantom",
        "description": "Generated abdomen-like scans; no patient data",
        "channel_names": {"0": "CT"},
        "labels": {name: value for value, name in enumerate(config.class_names)},
        "numTraining": config.labelled + config.validation + config.test,
        "file_ending": ".nii.gz",
    }


def _write_case(output: Path, config: PhantomConfig, role: str, index: int) -> None:
    image = output / "imagesTr" / f"{case_id(index)}_0000.nii.gz"
    label = output / "labelsTr" / f"{case_id(index)}.nii.gz"
    if not image.is_file() or (role != "unlabelled" and not label.is_file()):
        made = make_case(config, index)
        _write_volume(image, made.image, made.spacing)
        if role != "unlabelled":
            _write_volume(label, made.label, made.spacing)


def _write_volume(path: Path, array: NDArray[Any], spacing: tuple[float, float, float]) -> None:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * side for n, side in zip(array.shape, spacing, strict=True)]
    content = nib.Nifti1Image(array, affine).to_bytes()  # type: ignore[no-untyped-call]
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(content, compresslevel=1, mtime=0))
