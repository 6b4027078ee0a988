"""Everything that decides a run, typed and frozen; `config.yaml` of a run folder is this and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from semiseg.batches.augment import AugmentConfig
from semiseg.metrics.metrics import EmptyRule
from semiseg.preparing.overrides import PlanOverrides
from semiseg.scans.crop import LabelCrop
from semiseg.settings.merge import named

Precision = Literal["auto", "fp32", "tf32", "bf16"]
Accelerator = Literal["auto", "cpu", "gpu", "mps"]
Protocol = Literal["honest", "paper"]
Unit = Literal["step", "epoch"]
Switch = Literal["auto", "on", "off"]
Stride = tuple[Annotated[int, Field(ge=1)], ...]
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

    The rate at position i of n is `lr` times: `constant` 1; `poly` (1 - i/n)^power; `cosine` (1 + cos(pi i/n)) / 2;
    `step` factor^(i // every). Positions are steps or epochs (`unit`), n is `length`, and with `lag` i is the position
    before, as in official loops that set the rate after an update or at the end of an epoch. A warm-up of `warmup`
    steps multiplies the rate of step i by (i + 1)/warmup.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float | None = Field(None, gt=0, description="null: 0.001 for adamw, 0.01 for sgd")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD, with Nesterov's correction when `nesterov`")
    nesterov: bool = True
    weight_decay: float | None = Field(
        None, ge=0, description="null: 3e-5. AdamW takes it times the rate off a weight, so only large values act"
    )
    decay_all: bool | None = Field(
        None, description="biases and normalisations decay too; null: with SGD, as in the papers' code, not with AdamW"
    )
    clip: float | None = Field(12.0, gt=0, description="largest gradient norm; null switches clipping off")
    schedule: Literal["poly", "constant", "cosine", "step"] = "poly"
    power: float = Field(0.9, gt=0)
    every: int = Field(2500, ge=1)
    factor: float = Field(0.1, gt=0, le=1)
    unit: Unit = Field("step", description="what the schedule counts; an epoch is one pass over the unlabelled cases")
    lag: bool = Field(False, description="the schedule is one step or epoch late, and not below 0")
    length: int | None = Field(None, ge=1, description="position at which the schedule ends; null: the run's end")
    warmup: int = Field(0, ge=0)

    @property
    def base_lr(self) -> float:
        """`lr`, or the optimiser's usual one."""
        return self.lr or {"adamw": 1e-3, "sgd": 1e-2}[self.name]

    @property
    def decay(self) -> float:
        """`weight_decay`, or the optimiser's usual one."""
        return {"adamw": 3e-5, "sgd": 3e-5}[self.name] if self.weight_decay is None else self.weight_decay

    @property
    def decays_all(self) -> bool:
        """`decay_all`, or what is usual for the optimiser."""
        return self.name == "sgd" if self.decay_all is None else self.decay_all


class BatchConfig(_Settings):
    """Patches per step over all processes, and their size; what is null comes from the plan."""

    labelled: int | None = Field(None, ge=1)
    unlabelled: int | None = Field(None, ge=0)
    patch: tuple[int, ...] | None = None
    foreground: float = Field(1 / 3, ge=0, le=1, description="share of labelled patches centred on a foreground voxel")


class WindowConfig(_Settings):
    """Windows that slide over a scan in prediction, and in validation where that has its own stride."""

    stride: Stride | None = Field(None, description="voxels per axis; null: from the overlap")
    overlap: float = Field(0.5, ge=0, le=0.95, description="share that neighbouring windows have in common")
    weights: Literal["gaussian", "uniform"] = Field(
        "gaussian", description="of a voxel in its window: more in the centre, or equal as in the papers"
    )
    validation_stride: Stride | None = Field(
        None, description="voxels per axis while a checkpoint is chosen; null: half the patch"
    )


class MetricsConfig(_Settings):
    """How `evaluate` scores the run."""

    empty: EmptyRule = Field("diagonal", description="what an empty mask scores, see the page on metrics")
    unit: Literal["both", "mm", "voxel"] = Field("both", description="unit of the distances in the printed table")


class SpeedConfig(_Settings):
    """How networks and losses are executed. It changes the speed of a run, and its figures by rounding alone.

    What is `auto` is measured when a run starts and taken when it is faster, see the page on speed.
    """

    layout: Literal["auto", "contiguous", "channels_last"] = Field("auto", description="of weights and features")
    compile: Switch = Field("auto", description="compile networks; auto: on GPUs, in runs that are long enough")
    graphs: Switch = Field("auto", description="replay compiled networks as CUDA graphs")
    losses: Switch = Field("auto", description="compile losses; auto: where compiled networks are faster")
    resident: Switch = Field(
        "auto", description="keep the scans on the GPU; auto: where they take at most a quarter of its free memory"
    )


class RunConfig(_Settings):
    """A complete training run. `semiseg train --config FILE` reproduces it."""

    based_on: str | None = Field(None, description="preset that the settings came from; kept for the record alone")
    data: Absolute
    prepared: Absolute | None = Field(
        None, description="prepared store; null: `prepared` inside the dataset folder, or `prepared_...` with a plan"
    )
    plan: PlanOverrides = Field(PlanOverrides(), description="decisions of the planner that the settings take")
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

    window: WindowConfig = WindowConfig()
    largest_component: bool = Field(False, description="predict only the largest component of each class")
    metrics: MetricsConfig = MetricsConfig()

    steps: int = Field(2000, ge=1)
    epochs: int | None = Field(
        None, ge=1, description="length in passes over the unlabelled cases; `steps` is then written from it"
    )
    epoch_steps: int | None = Field(
        None,
        ge=1,
        description="steps that count as an epoch; null: one pass over the unlabelled cases, or over the labelled ones "
        "where no others are trained on",
    )
    seed: int = Field(0, ge=0)
    precision: Precision = "auto"
    accelerator: Accelerator = Field(
        "auto",
        description="auto: a GPU of NVIDIA or AMD if there is one, else the CPU; `mps`, Apple's, only if asked for",
    )
    devices: int = Field(1, ge=1, description="processes on this machine; `torchrun` overrides it")
    deterministic: bool = Field(
        True,
        description="bit-identical reruns on one CPU; on a GPU as far as it has such kernels: PyTorch warns of others",
    )
    speed: SpeedConfig = SpeedConfig()

    protocol: Protocol = "honest"
    select: Literal["last", "best"] = Field("last", description="weights that `predict` takes")
    select_on: Literal["validation", "test"] | None = Field(
        None, description="cases that choose the best weights; null: validation, or test under `protocol: paper`"
    )
    validate_every: int = Field(200, ge=1)
    validate_from: int | None = Field(None, ge=1, description="first validation; null: after `validate_every`")
    validate_unit: Unit = Field("step", description="unit of both")
    validate_with: Literal["windows", "centre"] = Field(
        "windows", description="whole scans, or one patch in the centre of each as xmed-lab/DHC"
    )
    validate_networks: bool = Field(
        False, description="also score each network of the method by itself: both of a pair, teacher beside student"
    )
    patience: int | None = Field(
        None, ge=1, description="validations in a row without a better score that end the run; null: never"
    )
    checkpoint_every: int = Field(200, ge=1)
    checkpoint_minutes: float = Field(
        5.0, gt=0, description="most minutes without one, looked at every `log_every` steps"
    )
    log_every: int = Field(20, ge=1)
    max_skipped: int = Field(20, ge=1, description="non-finite losses in a row that end the run")

    @model_validator(mode="before")
    @classmethod
    def _parts_in_a_word(cls, values: Any) -> Any:
        return named(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        if self.split and self.labelled:
            raise ValueError(
                "split and labelled exclude each other: a split file already says which cases are labelled"
            )
        if self.select == "best" and self.selects_on == "validation" and not (self.split or self.validation):
            raise ValueError(
                "select: best needs validation cases from the label budget: set validation, "
                "or list them in the split file"
            )
        if self.protocol == "honest":
            problems = [problem for problem, found in _only_on_paper(self) if found]
            if problems:
                raise ValueError("; ".join(problems))
        for name in ("patience", "validate_networks"):
            if getattr(self, name) and self.select == "last":
                raise ValueError(f"{name} needs select: best, which validates")
        return self

    @property
    def selects_on(self) -> Literal["validation", "test"]:
        """Role of the cases that choose the best weights."""
        return self.select_on or ("test" if self.protocol == "paper" else "validation")

    def to_yaml(self) -> str:
        """The complete configuration as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def _only_on_paper(config: RunConfig) -> Iterator[tuple[str, bool]]:
    """What uses labels of test cases, and whether the configuration does."""
    yield "select_on: test chooses weights by test labels: that takes protocol: paper", config.select_on == "test"
    yield (
        "plan.crop around the label uses test labels: that takes protocol: paper",
        isinstance(config.plan.crop, LabelCrop),
    )
