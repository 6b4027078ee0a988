"""Decisions about a dataset that a run asks for, in place of those that the planner would take."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from semiseg.errors import InputError
from semiseg.preparing.plan import Normalisation, Plan
from semiseg.scans.crop import LabelCrop
from semiseg.validation import parse


def _scheme(value: Any) -> Any:
    return {"scheme": value} if isinstance(value, str) else value


def _permutation(value: tuple[int, int, int]) -> tuple[int, int, int]:
    if sorted(value) != [0, 1, 2]:
        raise ValueError(f"expected each of 0, 1, 2 once, came {list(value)}")
    return value


Scaling = Annotated[Normalisation, BeforeValidator(_scheme)]
"""A normalisation; one that needs no numbers may be given by its name alone."""


class PlanOverrides(BaseModel):
    """Decisions of the planner that the settings take; null: it decides from what it measures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spatial_dims: Literal[2, 3] | None = None
    transpose: Annotated[tuple[int, int, int], AfterValidator(_permutation)] | None = Field(
        None, description="canonical axes in the order of storage"
    )
    spacing: tuple[float, float, float] | Literal["kept"] | None = Field(
        None, description="mm per stored axis; kept: every scan keeps its own grid"
    )
    slice_size: tuple[int, int] | None = Field(None, description="sides that whole slices of a 2D plan are brought to")
    normalisation: Scaling | tuple[Scaling, ...] | None = Field(None, description="for all channels, or one for each")
    crop: Literal["foreground", "none"] | LabelCrop | None = Field(None, description="part of the scan that is kept")

    @property
    def folder(self) -> str:
        """Name of the folder that is prepared into: runs with other overrides must not replace each other's store."""
        values = self.model_dump(mode="json", exclude_none=True)
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
        return f"prepared_{digest[:8]}" if values else "prepared"

    def as_fields(self, channels: int) -> dict[str, Any]:
        """Fields of the plan that are asked for, for a dataset with so many channels."""
        found: dict[str, Any] = {}
        for name in ("spatial_dims", "transpose", "crop", "slice_size"):
            if (value := getattr(self, name)) is not None:
                found[name] = value
        if self.slice_size is not None:
            found["patch"] = self.slice_size
        if self.spacing == "kept":
            found["resampled"] = False
        elif self.spacing is not None:
            found["spacing"] = self.spacing
        if self.normalisation is not None:
            one = isinstance(self.normalisation, Normalisation)
            found["normalisation"] = (self.normalisation,) * channels if one else self.normalisation
        return found

    def apply(self, plan: Plan) -> Plan:
        """`plan` with the decisions that are asked for, and the reason that they were.

        Raises:
            InputError: what is asked for does not go together.
        """
        decided = self.as_fields(len(plan.channels))
        if not decided:
            return plan
        reasons = {name: f"asked for by the settings: {_words(value)}" for name, value in decided.items()}
        values = {name: getattr(plan, name) for name in Plan.model_fields} | decided
        return parse(Plan, {**values, "reasons": {**plan.reasons, **reasons}}, "plan that the settings ask for")

    def check(self, plan: Plan, path: object) -> None:
        """Refuse a plan that a person made and that decides otherwise.

        Raises:
            InputError: one problem per decision that differs.
        """
        decided = self.as_fields(len(plan.channels))
        problems = [
            f"{path}: {name}: the plan was edited and has {_words(getattr(plan, name))}, the settings ask for "
            f"{_words(value)}: delete the plan, or take it out of the settings (plan.{name}: null)"
            for name, value in decided.items()
            if getattr(plan, name) != value
        ]
        if problems:
            raise InputError(*problems)


def _words(value: Any) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], Normalisation):
        return ", ".join(item.scheme for item in value)
    if isinstance(value, LabelCrop):
        return "a box around the label"
    return str(list(value) if isinstance(value, tuple) else value)
