"""What a comparison asks for: methods x label budgets x labelled subsets x seeds x presets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from semiseg.errors import InputError, shown
from semiseg.metrics.statistics import PairedTest
from semiseg.settings.run import Absolute
from semiseg.validation import parse, read_mapping

CONTROL = "supervised"
"""The method that sees the labelled cases only."""

PAIR = "supervised_pair"
"""The same with two networks, whose mean predicts."""

_MOST = 1000
"""Seeds or draws that nobody waits for; more are a slip of the hand."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MethodEntry(_Settings):
    """A method of the grid: `name` in tables and folders, and what is set for it alone."""

    method: str
    name: str = Field("", pattern=r"^[\w.-]*$", description="letters, digits, dots and dashes; default: the method")
    settings: dict[str, Any] = Field({}, description="as in the config.yaml of a run: options, optimiser ...")

    @property
    def label(self) -> str:
        """Name in tables and folders."""
        return self.name or self.method


def _entry(value: Any) -> Any:
    return {"method": value} if isinstance(value, str) else value


def _seeds(value: Any) -> Any:
    if isinstance(value, int) and value > _MOST:
        raise ValueError(f"expected at most {_MOST} seeds, came {shown(value)}")
    return range(value) if isinstance(value, int) else value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | int | Path) else value


def _percent(value: Any) -> Any:
    """`5%` stays a word, `5` becomes a number."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


Entry = Annotated[MethodEntry, BeforeValidator(_entry)]
Count = Annotated[int, Field(ge=1), BeforeValidator(_percent)]
Share = Annotated[str, Field(pattern=r"^\d+(\.\d+)?%$")]
Seed = Annotated[int, Field(ge=0)]


class Grid(_Settings):
    """A comparison. `semiseg compare --config FILE` reads it from YAML.

    Seeds and presets multiply everything; subsets are other draws of the labelled cases and multiply `labelled`.
    """

    data: Absolute | None = None
    prepared: Absolute | None = Field(None, description="prepared store; null: as semiseg train")
    methods: tuple[Entry, ...] = Field((MethodEntry(method="micd"),), min_length=1)
    tables: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (), description="comparison tables of papers, such as ducisc/I, whose methods are added to those named"
    )
    labelled: Annotated[tuple[Count | Share, ...], BeforeValidator(_listed)] = Field(
        (), description="numbers of labelled cases, or shares of the training cases such as 10%"
    )
    splits: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (), description="split files, or names of files in the dataset's folder splits"
    )
    test: int | None = Field(None, ge=1, description="cases kept for scoring; null: a fifth of the labelled ones")
    subsets: int = Field(1, ge=1, le=_MOST, description="draws of the labelled cases")
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(_seeds)] = Field((0, 1, 2), min_length=1)
    presets: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    steps: int | None = Field(None, ge=1)
    settings: dict[str, Any] = Field({}, description="of every cell, as in the config.yaml of a run")
    control: bool = Field(True, description="train the supervised control beside every cell")
    controls: Literal["plain", "all"] = Field(
        "all",
        description="`plain`: one network, as many updates as there are batches; `all`: where a method updates several "
        "times per batch or predicts with several networks, a control of its kind as well",
    )
    paired_test: PairedTest = Field(
        "wilcoxon",
        description="test of methods against controls over patients: Wilcoxon's signed-rank test, or the paired "
        "t-test, two-sided (`t`) or against the method being no better (`t-one-sided`)",
    )
    bound: bool = Field(True, description="train the supervised method on all labels as well")

    @model_validator(mode="after")
    def _consistent(self) -> Grid:
        problems = []
        if not (self.labelled or self.splits):
            problems.append("labelled or splits: name at least one label budget, such as --labelled 4 8 or --splits l8")
        if self.subsets > 1 and self.splits:
            problems.append("subsets are draws of labelled cases, split files fix them: name several files instead")
        if self.splits and self.test:
            problems.append("test: split files already say which cases are scored")
        twice = sorted({name for name in self.labels if self.labels.count(name) > 1})
        if twice:
            problems.append(f"methods: {', '.join(twice)} twice: give one of them another name")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def labels(self) -> list[str]:
        """Names of the methods."""
        return [entry.label for entry in self.methods]

    @property
    def control_entry(self) -> MethodEntry:
        """The control: the first plain supervised method of the grid, or one that is not asked for."""
        plain = (entry for entry in self.methods if entry.method == CONTROL and not entry.settings)
        return next(plain, MethodEntry(method=CONTROL, name=self.free_name(CONTROL)))

    def free_name(self, method: str) -> str:
        """Name of the control by `method`: the method's, unless the grid has something else of that name."""
        taken = any(entry.label == method and (entry.method != method or entry.settings) for entry in self.methods)
        return f"{method}-control" if taken else method


def load_grid(path: Path | None, overrides: Mapping[str, Any]) -> Grid:
    """A `Grid` from a YAML file and `overrides` (those that are not None) over it.

    `methods: all` stands for all that there are, or, with presets, for the methods that these have settings for;
    `table:ducisc/I` among them for those of a paper's comparison table.

    Raises:
        InputError: all that is wrong with the values.
    """
    from semiseg.comparison.paper_tables import with_tables

    values = read_mapping(path) if path else {}
    if overrides.get("methods") is not None:
        values.pop("tables", None)  # the file's tables only say more methods
    values |= {name: value for name, value in overrides.items() if value is not None}
    if values.get("methods") in ("all", ["all"], ("all",)):
        values["methods"] = _all_methods(_listed(values.get("presets") or ()))
    where = str(path) if path else "compare"
    return with_tables(parse(Grid, values, where), where)


def _all_methods(names: Iterable[str]) -> list[str]:
    """Every registered method; with presets those that they name, without variants, which are called `method-...`."""
    from semiseg.methods.base import registry
    from semiseg.settings.presets import preset

    named = dict.fromkeys(method for name in names for method in preset(name).methods)
    return [method for method in named if "-" not in method or method.partition("-")[0] not in named] or [*registry()]


def unique(problems: Sequence[str]) -> list[str]:
    """Each of `problems` once, in order; many cells may have the same."""
    return list(dict.fromkeys(problems))


def share_of(text: str) -> float:
    """0.05 of `5%`."""
    return float(text.rstrip("%")) / 100


def budget_name(count: int | None) -> str:
    """`l8`, and `all` where every label is used."""
    return "all" if count is None else f"l{count}"


def check_name(name: str) -> str:
    """`name` if it can be part of a folder's name.

    Raises:
        InputError: it cannot.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise InputError(f"compare: {name!r} becomes part of a folder's name: use letters, digits, dots and dashes")
    return name
