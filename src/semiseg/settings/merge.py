"""Settings in layers: what is asked for in a higher one wins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from semiseg.errors import InputError

_LENGTHS = ("steps", "epochs")
_NAMED = ("network", "optimiser")


def merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `lower` with those of `upper` in their place; mappings are merged key by key.

    Two things belong together: a mapping whose `name` changes (another network, another optimiser) drops what `lower`
    says about it, and a length in steps replaces one in epochs and the other way round. A word is a mapping with that
    name: `network: vnet`.
    """
    lower, upper = named(lower), named(upper)
    result = dict(lower)
    given = [name for name in _LENGTHS if upper.get(name) is not None]
    if len(given) == 1:
        result = {name: value for name, value in result.items() if name not in _LENGTHS}
    for name, value in upper.items():
        old = result.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not _renamed(old, value):
            result[name] = merge(old, value)
        else:
            result[name] = value
    return result


def named(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `network: vnet` as `network: {name: vnet}`, and so the optimiser."""
    return {
        name: {"name": value} if name in _NAMED and isinstance(value, str) else value for name, value in values.items()
    }


def _renamed(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "name" in new and new["name"] != old.get("name", new["name"])


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
