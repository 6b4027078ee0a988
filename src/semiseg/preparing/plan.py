"""What `prepare` decided about a dataset, with the measured reasons: `plan.json`, made to be read and edited."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from semiseg.errors import InputError
from semiseg.scans.crop import LabelCrop
from semiseg.scans.ranges import Kept, Seen, Usual, compared, odd
from semiseg.system.files import write_text
from semiseg.validation import parse, read_mapping


class Normalisation(BaseModel):
    """How one channel's intensities are scaled.

    Attributes:
        scheme: `zscore` by mean and standard deviation of each image's foreground; `ct` clips to `lower` ... `upper`
            and scales by the dataset's `mean` and `std`; `minmax` maps `lower` ... `upper` (each image's own range
            when they are null) to 0 ... 1; `none` leaves the values as they are.
        lower, upper, mean, std: in the image's own intensity units.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: Literal["zscore", "ct", "minmax", "none"]
    lower: float | None = Field(None, allow_inf_nan=False)
    upper: float | None = Field(None, allow_inf_nan=False)
    mean: float | None = Field(None, allow_inf_nan=False)
    std: float | None = Field(None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _complete(self) -> Normalisation:
        bounds, moments = (self.lower, self.upper), (self.mean, self.std)
        if self.scheme == "ct" and None in bounds + moments:
            raise ValueError("scheme ct needs numbers for lower, upper, mean and std")
        if self.scheme == "minmax" and (self.lower is None) != (self.upper is None):
            raise ValueError("scheme minmax needs both lower and upper, or null for both")
        if self.scheme in ("zscore", "none") and any(v is not None for v in bounds + moments):
            raise ValueError(f"scheme {self.scheme} measures each image by itself: set lower, upper, mean, std to null")
        if self.scheme == "minmax" and any(v is not None for v in moments):
            raise ValueError("scheme minmax takes lower and upper only: set mean and std to null")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError(f"lower ({self.lower:g}) must be below upper ({self.upper:g})")
        return self


_LONGEST_SIDE, _MOST_STRIDE, _MOST_FILTERS, _MOST_PATCHES = 1 << 13, 64, 1 << 14, 1 << 14
_SHORTEST = 1e-4  # mm
"""Bounds that no decision comes near to; beyond them a file is damaged."""

_MEASURED = ("usual", "kept")
"""Fields that are measured on the scans; a plan is the same whatever they are."""

_LATER: dict[str, Any] = {"resampled": True, "crop": "foreground", "slice_size": None}
"""Fields that plans did not always have; at these values a plan counts as before they came."""


class Plan(BaseModel):
    """Every decision about a dataset; edit the file and prepare again.

    Attributes:
        transpose: canonical axis (0 towards right, 1 anterior, 2 superior) that is stored axis 0, 1, 2. Slices are
            along the last stored axis.
        spacing: mm between stored voxels, per stored axis. Slices of a 2D plan are never resampled.
        resampled: whether scans are resampled to `spacing`; otherwise each keeps its own grid.
        crop: part of a scan that is kept: its `foreground`, all of it (`none`), or a box around the label.
        slice_size: 2D plans: sides that every slice is brought to, whole and by nearest voxels, whatever its spacing;
            `patch` is the same then. None: slices are cropped to the foreground and brought to `spacing`.
        normalisation: one per channel.
        patch: `spatial_dims` sides in stored voxels, multiples of the product of the strides.
        strides: per U-Net stage and axis; the first stage has stride 1.
        filters: channels per U-Net stage.
        labelled_per_batch, unlabelled_per_batch: patches per training step.
        usual: where the intensities of the scans lie, per channel; measured, not a decision.
        kept: least that the crop to the foreground kept of a scan, by share and by volume; measured, not a decision.
        reasons: why, per decision.
        automatic: digest of the plan as `prepare` wrote it; a plan that differs from it counts as edited and is kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    dataset: str
    channels: tuple[str, ...]
    class_names: tuple[str, ...]
    spatial_dims: Literal[2, 3]
    transpose: tuple[int, int, int]
    spacing: tuple[float, float, float]
    resampled: bool = True
    crop: Literal["foreground", "none"] | LabelCrop = "foreground"
    slice_size: tuple[int, int] | None = None
    normalisation: tuple[Normalisation, ...]
    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    filters: tuple[int, ...]
    labelled_per_batch: int = Field(ge=1, le=_MOST_PATCHES)
    unlabelled_per_batch: int = Field(ge=0, le=_MOST_PATCHES)
    usual: tuple[Usual | None, ...] = ()
    kept: Kept | None = None
    reasons: dict[str, str] = {}
    automatic: str = ""

    @model_validator(mode="before")
    @classmethod
    def _without_estimate(cls, values: Any) -> Any:
        """Earlier plans also held an estimate of the memory of a step, which no decision followed from."""
        if not isinstance(values, dict):
            return values
        kept = {name: value for name, value in values.items() if name != "step_gib"}
        if isinstance(reasons := kept.get("reasons"), dict):
            kept["reasons"] = {name: text for name, text in reasons.items() if name != "step_gib"}
        return kept

    @model_validator(mode="after")
    def _consistent(self) -> Plan:
        problems = [*_grid_problems(self), *_network_problems(self)]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def odd(self, channel: int, seen: Seen) -> str:
        """What sets the intensities of a channel apart from those of training; empty where each scan is scaled anew."""
        how, others = self.normalisation[channel], self.usual[channel] if channel < len(self.usual) else None
        fixed = how.scheme in ("ct", "none") or how.upper is not None
        return compared(seen, others) if fixed and others is not None and odd(seen, others) else ""

    def cropped_far(self, seen: Kept) -> bool:
        """Whether the crop to the foreground kept far less of a scan than it did in training."""
        return self.kept is not None and self.crop == "foreground" and not self.slice_size and seen.far_less(self.kept)

    def measured_as(self, other: Plan) -> Plan:
        """This plan with what `other` has measured."""
        return self.model_copy(update={name: getattr(other, name) for name in _MEASURED})

    @property
    def classes(self) -> int:
        """Number of classes, background included."""
        return len(self.class_names)

    @property
    def edited(self) -> bool:
        """Whether a person changed the plan that `prepare` wrote, or gave another one."""
        return self.automatic != self.digest

    @property
    def digest(self) -> str:
        """Hash of all decisions; one that is not taken leaves it as it was before the field existed."""
        return _digest(_as_ever(self.model_dump(mode="json", exclude={"automatic", *_MEASURED})))

    @property
    def store_digest(self) -> str:
        """Hash of those decisions that the prepared store depends on."""
        fields = {"version", "spatial_dims", "channels", "class_names", "transpose", "spacing", "normalisation"}
        return _digest(_as_ever(self.model_dump(mode="json", include=fields | _LATER.keys())))

    def save(self, path: Path) -> None:
        """Write the plan to `path` atomically, short lists on one line."""
        text = json.dumps(self.model_dump(mode="json"), indent=2)
        text = re.sub(r"\[\n\s+([^\[\]{}]*?)\n\s+\]", _on_one_line, text)
        write_text(path, text + "\n")

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read and check a plan.

        Raises:
            InputError: all that is wrong with the file, unknown names with the nearest known one.
        """
        try:
            return parse(cls, read_mapping(path), str(path))
        except InputError as error:
            remedy = f"{path}: mend the file, or delete it and prepare the dataset again to have it planned anew"
            raise InputError(*error.problems, remedy) from None


def _grid_problems(plan: Plan) -> list[str]:
    problems = []
    if sorted(plan.transpose) != [0, 1, 2]:
        problems.append(f"transpose: expected each of 0, 1, 2 once, came {list(plan.transpose)}")
    if not all(_SHORTEST <= mm <= 1 / _SHORTEST for mm in plan.spacing):
        problems.append(
            f"spacing: expected three numbers of {_SHORTEST:g} to {1 / _SHORTEST:g} mm, came {list(plan.spacing)}"
        )
    problems += _slice_problems(plan)
    if len(plan.normalisation) != len(plan.channels):
        problems.append(
            f"normalisation: expected {len(plan.channels)} (one per channel), came {len(plan.normalisation)}"
        )
    return problems


def _slice_problems(plan: Plan) -> list[str]:
    size = plan.slice_size
    if size is None:
        return []
    if plan.spatial_dims != 2:
        return [f"slice_size: expected null in a plan with spatial_dims 3, came {list(size)}: set one or the other"]
    if not 2 <= min(size) <= max(size) <= _LONGEST_SIDE:
        return [f"slice_size: expected two sides of 2 to {_LONGEST_SIDE} voxels, came {list(size)}"]
    if plan.patch != size:
        return [
            f"slice_size: patches are whole slices then: set patch to {list(size)} as well, came {list(plan.patch)}"
        ]
    return []


def _network_problems(plan: Plan) -> list[str]:
    dims, problems = plan.spatial_dims, []
    if len(plan.patch) != dims or any(not 1 <= side <= _LONGEST_SIDE for side in plan.patch):
        problems.append(f"patch: expected {dims} sides of 1 to {_LONGEST_SIDE} voxels, came {list(plan.patch)}")
    if not plan.strides or any(len(stage) != dims or min(stage) < 1 for stage in plan.strides):
        problems.append(f"strides: expected {dims} positive numbers per stage, came {[list(s) for s in plan.strides]}")
    elif max(max(stage) for stage in plan.strides) > _MOST_STRIDE:
        problems.append(f"strides: expected at most {_MOST_STRIDE}, came {[list(s) for s in plan.strides]}")
    elif set(plan.strides[0]) != {1}:
        problems.append(f"strides: the first stage must have stride 1, came {list(plan.strides[0])}")
    elif len(plan.patch) == dims:
        total = [math.prod(stage[axis] for stage in plan.strides) for axis in range(dims)]
        if any(side % stride for side, stride in zip(plan.patch, total, strict=True)):
            problems.append(f"patch: expected multiples of the total strides {total}, came {list(plan.patch)}")
    if len(plan.filters) != len(plan.strides) or any(not 1 <= count <= _MOST_FILTERS for count in plan.filters):
        problems.append(
            f"filters: expected {len(plan.strides)} numbers (one per stage) of 1 to {_MOST_FILTERS}, "
            f"came {list(plan.filters)}"
        )
    return problems


def _as_ever(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _LATER or value != _LATER[name]}


def _on_one_line(items: re.Match[str]) -> str:
    return "[" + re.sub(r",\n\s+", ", ", items[1]) + "]"


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
