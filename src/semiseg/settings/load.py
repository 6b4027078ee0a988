"""The settings of a run, from layers to what is checked: preset, file, arguments, assignments, in rising priority."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semiseg.errors import raise_all
from semiseg.methods.base import entry
from semiseg.settings.merge import assign, merge
from semiseg.settings.presets import apply
from semiseg.settings.run import RunConfig
from semiseg.validation import parse, read_mapping


def load_config(path: Path | None, overrides: Mapping[str, Any], assignments: Sequence[str] = ()) -> RunConfig:
    """A `RunConfig` from, in rising priority, a preset, a YAML file, `overrides`, and `a.b=value` assignments.

    The preset is the one that the file, the overrides or the assignments name as `preset`. Overrides that are None do
    not count. Mappings such as `optimiser` are merged setting by setting, see `merge`.

    Raises:
        InputError: all that is wrong with the values, unknown names with the nearest known one.
    """
    assigned: dict[str, Any] = {}
    for assignment in assignments:
        assign(assigned, assignment)
    given = {name: value for name, value in overrides.items() if value is not None}
    values = merge(merge(read_mapping(path) if path else {}, given), assigned)
    preset = values.pop("preset", None)
    config = parse(RunConfig, values if preset is None else apply(preset, values), str(path) if path else "settings")
    batch = config.batch  # what is null is known with the plan
    patches = batch.labelled or 0, batch.unlabelled or 0
    raise_all(entry(config.method).too_few(config.options, *patches, config.devices))
    return config
