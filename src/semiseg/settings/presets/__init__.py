"""A paper's complete setting per dataset, as layers of settings below those of the user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from semiseg.datasets.description import cropped_around_labels
from semiseg.errors import InputError, did_you_mean, raise_all
from semiseg.preparing.overrides import PlanOverrides
from semiseg.settings.merge import merge
from semiseg.settings.run import Protocol, RunConfig
from semiseg.validation import parse

Settings = dict[str, Any]
_HONEST = "_honest"


def _named(value: Any) -> Any:
    """YAML reads `8:` as a number."""
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else value


def _parted(value: Any) -> Any:
    """In the files, settings of a method stand beside `paper` and `notes`."""
    if not isinstance(value, Mapping):
        return value
    beside = {name: item for name, item in value.items() if name in ("paper", "notes")}
    return {"run": {name: item for name, item in value.items() if name not in beside}, **beside}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MethodSettings(_Part):
    """Settings of one method on the dataset; `paper` holds those that only `protocol: paper` takes."""

    run: Settings = {}
    paper: Settings = {}
    notes: tuple[str, ...] = ()


class Budget(_Part):
    """A number of labels that papers report.

    Attributes:
        cases: labelled cases; more than the number asked for where that counts patients.
        split: name of the published list among the split files that `semiseg import` writes.
        run, methods: settings that differ with this budget.
    """

    cases: int = Field(ge=1)
    split: str
    run: Settings = {}
    methods: dict[str, Settings] = {}


class Preset(_Part):
    """The settings of one file of this package.

    Attributes:
        title: the dataset, and whose protocol is followed.
        classes, channels: of the dataset, background included; for plans that are made without it.
        plan: decisions that `prepare` takes over.
        run: settings of all methods.
        paper: settings of all methods that only `protocol: paper` takes: they use labels of test cases, or more labels
            than the budget.
        methods: settings of single methods, each by its own paper.
        budgets: by the number that the user gives as `labelled`; `all` are all training labels.
        notes: what is read into the sources, and what is not the same.
    """

    name: str
    title: str
    sources: tuple[str, ...]
    classes: int = Field(ge=2)
    channels: int = Field(1, ge=1)
    plan: Settings = {}
    run: Settings = {}
    paper: Settings = {}
    methods: dict[str, Annotated[MethodSettings, BeforeValidator(_parted)]] = {}
    budgets: Annotated[dict[str, Budget], BeforeValidator(_named)] = {}
    notes: tuple[str, ...] = ()

    def settings(self, method: str, budget: Budget | None, protocol: Protocol) -> Settings:
        """Fields of a `RunConfig` for `method`: what is particular wins over what is common."""
        own = self.methods.get(method, MethodSettings())
        layers = [{"plan": self.plan}, self.run]
        layers += [budget.run] if budget else []
        layers += [own.run]
        layers += [budget.methods.get(method, {})] if budget else []
        layers += [self.paper, own.paper] if protocol == "paper" else []
        found: Settings = {}
        for layer in layers:
            found = merge(found, layer)
        return found

    def budget(self, labelled: int | None, split: Path | None = None) -> Budget | None:
        """The budget that is asked for by number or by split file; all labels where neither is given."""
        if split is not None:
            stem = split.stem.removesuffix(_HONEST)
            return next((budget for budget in self.budgets.values() if budget.split == stem), None)
        return self.budgets.get("all" if labelled is None else str(labelled))


def names() -> tuple[str, ...]:
    """Names of all presets."""
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files(__name__).iterdir() if _is_preset(file.name)))


def _is_preset(name: str) -> bool:
    return name.endswith(".yaml")


@lru_cache
def preset(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    if name not in names():
        raise InputError(f"unknown preset {name!r}: {did_you_mean(str(name), names())}")
    values = yaml.safe_load((files(__name__) / f"{name}.yaml").read_text(encoding="utf-8"))
    return parse(Preset, {"name": name, **values}, f"preset {name}")


_KINDS: Mapping[str, tuple[type, ...]] = {
    "preset": (str,),
    "method": (str,),
    "split": (str, Path),
    "plan": (Mapping,),
}
"""Settings that decide what a preset means, and so are looked at before all of them are parsed."""


def _check_kinds(values: Mapping[str, Any]) -> None:
    raise_all(
        f"settings: {name}: expected {'settings of its own' if name == 'plan' else 'text'} (came: {values[name]!r:.80})"
        for name, kinds in _KINDS.items()
        if values.get(name) is not None and not isinstance(values[name], kinds)
    )


def apply(name: str, values: Mapping[str, Any]) -> Settings:
    """Settings of a run: those of the preset `name`, and over them the user's `values`.

    Where `values` ask for a number of labelled cases that has a published list, and the dataset has that list
    (`semiseg import` writes it), it becomes the split.

    Raises:
        InputError: unknown preset, or `values` are those of a run that was based on one already.
    """
    if values.get("based_on") is not None:
        raise InputError(
            f"the settings are those of a run that was based on the preset {values['based_on']!r}, and are complete: "
            "leave the preset out"
        )
    _check_kinds({**values, "preset": name})
    found = preset(name)
    method = values.get("method") or found.run.get("method", RunConfig.model_fields["method"].default)
    protocol = values.get("protocol", "honest")
    split = None if values.get("split") is None else Path(values["split"])
    budget = found.budget(values.get("labelled"), split)
    merged = merge(found.settings(method, budget, protocol), values)
    data = Path(values["data"]) if isinstance(values.get("data"), str | Path) else None
    if data is not None and _cuts(merged) and cropped_around_labels(data):
        merged = _uncut(merged)
    if split is None and budget is not None:
        merged |= _published(budget, data, merged)
    return {**merged, "based_on": name}


def _cuts(values: Settings) -> bool:
    return isinstance((values.get("plan") or {}).get("crop"), Mapping)


def _uncut(values: Settings) -> Settings:
    """`values` without a crop around labels, for scans that the import has cut like that already."""
    return {**values, "plan": {**values["plan"], "crop": "none"}} if _cuts(values) else values


def _published(budget: Budget, data: Path | None, values: Mapping[str, Any]) -> Settings:
    """The published list of the budget as split, or its number of cases to draw."""
    within = values.get("select") == "best" and values.get("protocol", "honest") == "honest"
    file = None if data is None else data / "splits" / f"{budget.split}{_HONEST * within}.json"
    if file is not None and file.is_file():
        return {"split": file, "labelled": None}
    return {"labelled": budget.cases if values.get("labelled") else None}


def wishes(name: str | None) -> PlanOverrides:
    """What runs with the preset `name` ask of the plan under the honest protocol; nothing when there is no preset."""
    return PlanOverrides() if name is None else parse(PlanOverrides, preset(name).plan, f"preset {name}")


def differences(config: RunConfig, found: Sequence[str]) -> Iterator[str]:
    """Lines for people on the deviations that were `found` of a run from the paper whose preset it is based on."""
    if config.based_on is None:
        return
    head = f"preset {config.based_on}, method {config.method}, protocol {config.protocol}"
    yield f"{head}: as the paper has it" if not found else f"{head}; it differs from the paper in"
    yield from (f"  {line}" for line in found)


def deviations(config: RunConfig, cropped: bool = False) -> tuple[str, ...]:
    """Every setting in which a run differs from its preset under `protocol: paper`; none without a preset.

    `cropped` says whether the import has cut the scans around their labels (`Dataset.cropped`).
    """
    if config.based_on is None:
        return ()
    found = preset(config.based_on)
    budget = found.budget(config.labelled, config.split) or _drawn(found, config)
    paper = _on_paper(found, budget, config, cropped)
    was, now = _flat(paper), _flat(config)
    changed = [name for name in {**was, **now} if was.get(name) != now.get(name) and not _implied(name, paper, config)]
    lines = [f"{name}: {_words(now.get(name))}; the paper: {_words(was.get(name))}" for name in changed]
    if config.method not in found.methods:
        lines.append(f"method: the preset has no settings of {config.method} itself, those of all methods are taken")
    return (*_split_deviations(found, budget, config), *lines)


def _on_paper(found: Preset, budget: Budget | None, config: RunConfig, cropped: bool) -> RunConfig:
    """The preset under `protocol: paper` on the data of `config`."""
    values = {name: getattr(config, name) for name in _FREE}
    values["validation"] = config.validation or int(config.split is None)  # as many as `select: best` needs
    settings = found.settings(config.method, budget, "paper")
    settings = _uncut(settings) if cropped else settings
    return parse(RunConfig, {**settings, **values, "protocol": "paper"}, f"preset {found.name}")


_FREE = (
    *("data", "prepared", "split", "labelled", "validation", "test", "split_seed", "patient_pattern", "based_on"),
    *("method", "seed", "accelerator", "devices", "deterministic"),
    *("checkpoint_every", "checkpoint_minutes", "log_every", "max_skipped"),
)
"""Settings that say where and on what a run works, not what it does."""

_SELECTION = ("select_on", "validate_every", "validate_from", "validate_unit", "validate_with", "patience")


def _drawn(found: Preset, config: RunConfig) -> Budget | None:
    """The budget whose number of cases was drawn because its list was not there."""
    return next((b for b in found.budgets.values() if config.split is None and b.cases == config.labelled), None)


def _split_deviations(found: Preset, budget: Budget | None, config: RunConfig) -> Iterator[str]:
    if budget is None:
        known = ", ".join(found.budgets)
        yield f"labels: the papers report {known} labelled cases or patients, with the lists that semiseg import writes"
    elif config.split is None:
        yield (
            f"split: drawn, for the dataset has no splits/{budget.split}.json, the published list, which semiseg "
            f"import {found.name} writes"
        )
    elif config.split.stem.endswith(_HONEST):
        yield f"split: {config.split.stem} keeps validation cases within the budget; the paper: {budget.split}"


def _implied(name: str, paper: RunConfig, config: RunConfig) -> bool:
    """Whether a difference follows from another one that is told."""
    if name == "precision":  # what `auto` means for a method that needs float32
        from semiseg.methods.base import entry

        return config.precision == "auto" and entry(config.method).cls.precision == paper.precision
    length = name == "steps" and paper.epochs is not None and paper.epochs == config.epochs
    chosen = config.select == "last" and (name in _SELECTION or name == "window.validation_stride")
    return length or chosen


def _flat(config: RunConfig) -> dict[str, Any]:
    from semiseg.methods.base import entry

    options = entry(config.method).configure(config.options).model_dump(mode="json")
    left_out = {*_FREE, "options", "protocol", "validate_networks"}
    values = config.model_dump(mode="json", exclude=left_out) | {"options": options}
    if config.select == "best":
        values["select"] = f"best on the {config.selects_on} cases"
    crop = values["plan"]["crop"]
    if isinstance(crop, dict):
        details = ", ".join(f"{name} {value}" for name, value in crop.items())
        values["plan"]["crop"] = f"around the label ({details})"
    return dict(_leaves(values, ""))


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _words(value: Any) -> str:
    return "not set" if value is None else str(value)
