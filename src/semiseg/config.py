"""Everything that decides a run, typed and frozen; `config.yaml` of a run folder is this and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from semiseg.data.augment import AugmentConfig
from semiseg.errors import InputError
from semiseg.validation import parse, read_mapping

Precision = Literal["auto", "fp32", "tf32", "bf16"]
Protocol = Literal["honest", "paper"]
Absolute = Annotated[Path, AfterValidator(Path.absolute)]
"""A path that stays right when a run is used from another folder than it was started in."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkConfig(_Settings):
    """Architecture: `name` is a registered network; `options` override what the plan proposes."""

    name: str = "unet"
    options: dict[str, Any] = {}
    weights: Absolute | None = Field(
        None, description="start every network from this file (.safetensors, or official .pth of the papers' networks)"
    )


class OptimiserConfig(_Settings):
    """Optimiser and learning rate.

    AdamW is the default because it gets far in few steps and does not mind the scale of a method's loss; the papers
    train with SGD.

    The rate of step i of n is `lr` times: `constant` 1; `poly` (1 - i/n)^power; `cosine` (1 + cos(pi i/n)) / 2;
    `step` factor^(i // every). A warm-up of `warmup` steps multiplies it by (i + 1)/warmup.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float | None = Field(None, gt=0, description="null: 0.001 for adamw, 0.01 for sgd")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD, with Nesterov's correction when `nesterov`")
    nesterov: bool = True
    weight_decay: float = Field(3e-5, ge=0)
    clip: float | None = Field(12.0, gt=0, description="largest gradient norm; null switches clipping off")
    schedule: Literal["poly", "constant", "cosine", "step"] = "poly"
    power: float = Field(0.9, gt=0)
    every: int = Field(2500, ge=1)
    factor: float = Field(0.1, gt=0, le=1)
    warmup: int = Field(0, ge=0)

    @property
    def base_lr(self) -> float:
        """`lr`, or the optimiser's usual one."""
        return self.lr or {"adamw": 1e-3, "sgd": 1e-2}[self.name]


class BatchConfig(_Settings):
    """Patches per step over all processes, and their size; what is null comes from the plan."""

    labelled: int | None = Field(None, ge=1)
    unlabelled: int | None = Field(None, ge=0)
    patch: tuple[int, ...] | None = None
    foreground: float = Field(1 / 3, ge=0, le=1, description="share of labelled patches centred on a foreground voxel")


class RunConfig(_Settings):
    """A complete training run. `semiseg train --config FILE` reproduces it."""

    data: Absolute
    prepared: Absolute | None = Field(None, description="prepared store; null: `prepared` inside the dataset folder")
    split: Absolute | None = Field(None, description="JSON file with the roles of the cases")
    labelled: int | None = Field(None, ge=1, description="number of labelled cases to draw when there is no split file")
    validation: int = Field(0, ge=0, description="cases of the label budget kept for choosing the checkpoint")
    test: int = Field(0, ge=0, description="labelled cases kept for scoring when there is no split file")
    split_seed: int = 0
    patient_pattern: str | None = Field(
        None, description="regular expression on case ids whose first group is the patient; null: patients.json, if any"
    )

    method: str = "micd"
    options: dict[str, Any] = Field({}, description="options of the method; `semiseg methods NAME` lists them")
    network: NetworkConfig = NetworkConfig()
    batch: BatchConfig = BatchConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    augment: AugmentConfig = AugmentConfig()

    steps: int = Field(2000, ge=1)
    seed: int = Field(0, ge=0)
    precision: Precision = "auto"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = Field(1, ge=1, description="processes on this machine; `torchrun` overrides it")
    deterministic: bool = Field(True, description="bit-identical reruns on one device")

    protocol: Protocol = "honest"
    select: Literal["last", "best"] = Field("last", description="weights that `predict` takes")
    validate_every: int = Field(200, ge=1)
    checkpoint_every: int = Field(200, ge=1)
    log_every: int = Field(20, ge=1)
    max_skipped: int = Field(20, ge=1, description="non-finite losses in a row that end the run")

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        if self.split and self.labelled:
            raise ValueError(
                "split and labelled exclude each other: a split file already says which cases are labelled"
            )
        if self.select == "best" and self.protocol == "honest" and not (self.split or self.validation):
            raise ValueError(
                "select: best needs validation cases from the label budget: set validation, "
                "or list them in the split file"
            )
        return self

    def to_yaml(self) -> str:
        """The complete configuration as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_config(path: Path | None, overrides: Mapping[str, Any], assignments: Sequence[str] = ()) -> RunConfig:
    """A `RunConfig` from a YAML file, then `overrides` (those that are not None), then `a.b=value` assignments.

    Raises:
        InputError: all that is wrong with the values, unknown names with the nearest known one.
    """
    values = read_mapping(path) if path else {}
    values |= {name: value for name, value in overrides.items() if value is not None}
    for assignment in assignments:
        assign(values, assignment)
    config = parse(RunConfig, values, str(path) if path else "settings")
    _check_method(config)
    return config


_WORDS = ("on", "off", "yes", "no")
"""Words to this package, among them values of options, where YAML 1.1 reads true and false."""


def assign(
    values: dict[str, Any], assignment: str, example: str = "optimiser.lr=0.02 or options.mask_ratio=0.3"
) -> None:
    """Set `a.b=value` in `values`; the value is read as YAML.

    Raises:
        InputError: it is no assignment; `example` shows one.
    """
    name, equals, text = assignment.partition("=")
    if not equals or not name:
        raise InputError(f"--set {assignment}: expected NAME=VALUE, such as {example}")
    *parents, last = name.strip().split(".")
    for part in parents:
        values[part] = dict(values.get(part) or {})
        values = values[part]
    try:
        values[last] = text if text in _WORDS else yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"--set {assignment}: the value is neither a number, a word, nor a list like [1, 2]") from None


def _check_method(config: RunConfig) -> None:
    from semiseg.methods.base import entry

    entry(config.method).configure(config.options)
