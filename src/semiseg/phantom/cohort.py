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
from typing import Annotated, Any, Self

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from semiseg.errors import InputError
from semiseg.phantom.anatomy import FIELD_OF_VIEW, abdomen, chosen
from semiseg.phantom.shapes import FAR, Array, Blob, Canvas, Group, Part, smooth_field, vary
from semiseg.phantom.slices import axial_slice
from semiseg.phantom.tissues import Look, Modality, draw_look, scan
from semiseg.system.files import replacing, write_json

_Side = Annotated[int, Field(ge=12, le=512)]
_Millimetres = Annotated[float, Field(gt=0, le=50)]
_SETTINGS = "phantom.json"


class PhantomConfig(BaseModel):
    """A cohort and its scans; the grid always holds the whole abdomen, whatever its shape and spacing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, description="cohorts of different seeds share no patient")
    shape: tuple[_Side, ...] = Field((48, 48, 48), description="voxels per axis (x, y[, z]); two axes make 2D cases")
    spacing: tuple[_Millimetres, ...] | None = Field(None, description="mm per axis; None: the body is life-sized")
    modalities: tuple[Modality, ...] = Field(("ct",), min_length=1, description="one channel each")
    organs: int = Field(5, ge=1, le=15, description="labelled organs; the others are there, without a label")
    labelled: int = Field(3, ge=0, description="training cases with a label file")
    unlabelled: int = Field(20, ge=0, description="training cases without")
    validation: int = Field(0, ge=0, description="validation cases, with labels")
    test: int = Field(8, ge=0, description="test cases, with labels")
    hidden_labels: bool = Field(False, description="write the unlabelled cases' labels to labelsUn")
    variation: float = Field(1.0, ge=0, le=2, description="how much patients differ, in shape and grey value")
    noise: float = Field(1.0, ge=0, le=10, description="multiple of the usual image noise")
    absent: float = Field(0.0, ge=0, le=0.9, description="probability of an organ other than the liver to be missing")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.shape) not in (2, 3):
            raise ValueError(f"shape needs two or three sides, got {len(self.shape)}")
        if self.spacing is not None and len(self.spacing) != len(self.shape):
            raise ValueError(f"spacing needs {len(self.shape)} numbers as shape has, got {len(self.spacing)}")
        return self

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
    """One patient: `image` `[C, X, Y, Z]` int16, `label` `[X, Y, Z]` uint8, `spacing` in mm; Z is 1 for 2D."""

    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    spacing: tuple[float, float, float]


@dataclass
class _Painting:
    """What a case is painted on: values `[C, X, Y, Z]`, texture strength and labels `[X, Y, Z]`."""

    values: Array
    texture: Array
    label: NDArray[np.uint8]


def case_id(index: int) -> str:
    """File name stem of case `index`."""
    return f"phantom_{index:03d}"


def make_case(config: PhantomConfig, index: int) -> PhantomCase:
    """Draw patient `index` of the cohort; a pure function of the scan's settings and (seed, index)."""
    streams = np.random.SeedSequence(config.seed, spawn_key=(index,)).spawn(3)
    rng, look_rng, scan_rng = (np.random.Generator(np.random.Philox(stream)) for stream in streams)
    shape, spacing = _grid(config)
    canvas, reference = _canvas(config, rng, shape, spacing)
    look = draw_look(look_rng, config.modalities, config.variation)
    painting = _paint(config, rng, canvas, look)
    image = scan(scan_rng, painting.values, painting.texture, look, reference, config.noise)
    return PhantomCase(np.rint(image).astype(np.int16), painting.label, spacing)


def _grid(config: PhantomConfig) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    flat = len(config.shape) == 2
    x, y, z = (*config.shape, 1) if flat else config.shape
    if config.spacing is None:
        width, depth, height = FIELD_OF_VIEW
        return (x, y, z), (width / x, depth / y, 5.0 if flat else height / z)
    a, b, c = (*config.spacing, 5.0) if flat else config.spacing
    return (x, y, z), (a, b, c)


def _canvas(
    config: PhantomConfig, rng: np.random.Generator, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> tuple[Canvas, Array]:
    """The patient's warped coordinates, and the voxel sides in millimetres of the reference body."""
    extent = np.multiply(shape, spacing)
    in_plane = max(width / full for width, full in zip(FIELD_OF_VIEW[:2], extent[:2], strict=True))
    scale = np.array([in_plane, in_plane, FIELD_OF_VIEW[2] / extent[2]]) * np.exp(
        rng.normal(0, 0.04, 3) * config.variation
    )
    sides = np.asarray(spacing) * scale
    axes = [((np.arange(n) - (n - 1) / 2) * side).astype(np.float32) for n, side in zip(shape, sides, strict=True)]
    strengths = (np.array([9.0, 7.0, 9.0]), np.array([3.0, 2.5, 3.0]))
    warp = np.zeros((3, *shape), dtype=np.float32)
    for strength, knots in zip(strengths, ((3, 3, 3), (8, 6, 8)), strict=True):
        for axis in range(3):
            if shape[axis] > 1:
                warp[axis] += smooth_field(rng, shape, knots) * (strength[axis] * config.variation)
    return Canvas((axes[0], axes[1], axes[2]), warp), sides.astype(np.float32)


def _paint(config: PhantomConfig, rng: np.random.Generator, canvas: Canvas, look: Look) -> _Painting:
    flat = len(config.shape) == 2
    painting = _Painting(
        np.empty((len(look.modalities), *canvas.shape), np.float32),
        np.zeros(canvas.shape, np.float32),
        np.zeros(canvas.shape, np.uint8),
    )
    painting.values[...] = look.values["air"].reshape(-1, 1, 1, 1)
    wall = _paint_body(config, rng, canvas, look, painting)
    classes = {name: value for value, name in enumerate(config.class_names)}
    distances: dict[int, tuple[Part, Any, Array]] = {}
    for group in axial_slice(rng) if flat else abdomen(rng):
        varied, gone = vary(group, rng, config.variation, flat), rng.random() < config.absent
        if gone and _owner(group) not in (None, "liver"):
            continue
        for part in varied.parts:
            box, distance = canvas.distance(part)
            if not distance.size:
                continue
            bounded = np.maximum(distance, wall[part.inside][box])
            value = classes.get(part.organ or "", 0)
            _lay(painting, box, np.clip(0.5 - bounded / canvas.voxel, 0, 1), part.tissue, look, value)
            if value and value not in distances:
                distances[value] = part, box, distance
    for value, (part, box, distance) in distances.items():
        _keep_visible(painting, value, part, box, distance, look)
    return painting


def _owner(group: Group) -> str | None:
    return group.parts[0].organ


def _paint_body(
    config: PhantomConfig, rng: np.random.Generator, canvas: Canvas, look: Look, painting: _Painting
) -> dict[bool, Array]:
    """Paint fat, muscle wall and the fat inside; returns the distances to the wall's inner and outer face."""
    width, depth = np.array([170.0, 118.0]) * np.exp(rng.normal(0, 0.03, 2) * config.variation)
    fat = 16 * float(np.exp(rng.normal(0, 0.4) * config.variation))
    muscle = 11 * float(np.exp(rng.normal(0, 0.2) * config.variation))
    fat = min(fat, 30.0)
    faces = {}
    for inset, tissue, inside in ((0.0, "fat", None), (fat, "muscle", False), (fat + muscle, "fat", True)):
        solid = Blob((0.0, 0.0, 0.0), (float(width - inset), float(depth - 0.8 * inset), 1e4))
        box, distance = canvas.distance(Part(tissue, (solid,)))
        _lay(painting, box, np.clip(0.5 - distance / canvas.voxel, 0, 1), tissue, look, 0)
        if inside is not None:
            faces[inside] = np.full(canvas.shape, FAR, np.float32)
            faces[inside][box] = distance
    return faces


def _lay(painting: _Painting, box: Any, cover: Array, tissue: str, look: Look, value: int) -> None:
    """Lay a tissue over `box`; a voxel that it half covers gets half of its grey value, and its label from there on."""
    for values, grey in zip(painting.values, look.values[tissue], strict=True):
        values[box] += cover * (grey - values[box])
    painting.texture[box] += cover * (np.float32(look.texture[tissue]) - painting.texture[box])
    painting.label[box][cover > 0.5] = value


def _keep_visible(painting: _Painting, value: int, part: Part, box: Any, distance: Array, look: Look) -> None:
    """Give an organ that the grid or its neighbours swallowed the voxel nearest to its core."""
    if (painting.label == value).any():
        return
    counts = np.bincount(painting.label.ravel(), minlength=256)
    taken = (painting.label[box] > 0) & (counts[painting.label[box]] < 2)
    at = np.unravel_index(np.argmin(distance + 1e3 * taken), distance.shape)
    cover = np.zeros_like(distance)
    cover[at] = 1
    _lay(painting, box, cover, part.tissue, look, value)


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
        "channel_names": {str(channel): name.upper() for channel, name in enumerate(config.modalities)},
        "labels": {name: value for value, name in enumerate(config.class_names)},
        "numTraining": config.labelled + config.validation + config.test,
        "file_ending": ".nii.gz",
    }


def _write_case(output: Path, config: PhantomConfig, role: str, index: int) -> None:
    case = case_id(index)
    folder = {"unlabelled": "labelsUn" if config.hidden_labels else None}.get(role, "labelsTr")
    label = output / folder / f"{case}.nii.gz" if folder else None
    images = [output / "imagesTr" / f"{case}_{channel:04d}.nii.gz" for channel in range(len(config.modalities))]
    if all(path.is_file() for path in [*images, *([label] if label else [])]):
        return
    made = make_case(config, index)
    for path, image in zip(images, made.image, strict=True):
        _write_volume(path, image, made.spacing)
    if label:
        _write_volume(label, made.label, made.spacing)


def _write_volume(path: Path, array: NDArray[Any], spacing: tuple[float, float, float]) -> None:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * side for n, side in zip(array.shape, spacing, strict=True)]
    content = nib.Nifti1Image(array, affine).to_bytes()  # type: ignore[no-untyped-call]
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(content, compresslevel=1, mtime=0))
