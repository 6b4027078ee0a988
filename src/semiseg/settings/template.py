"""All settings as a YAML file with comments, to be edited and given to `--config`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from semiseg.settings.option_words import option_words
from semiseg.settings.run import RunConfig

_HEAD = """\
# Settings of semiseg: semiseg train --config FILE
# Each has its default here; what you do not change can be deleted. null: as the text says, or none.
"""
_WIDTH = 118
_RECORD = ("based_on",)


def template() -> str:
    """Every setting of a run with its default, kind, bounds and description."""
    lines = _lines(RunConfig, "")
    return _HEAD + "\n".join(["data: DATA  # dataset folder", *lines]) + "\n"


def _lines(model: type[BaseModel], indent: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if field.is_required() or name in _RECORD:
            continue
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(type(default), f"{indent}  ")
        else:
            yield from _entry(name, default, field, indent)


def _entry(name: str, default: Any, field: FieldInfo, indent: str) -> Iterator[str]:
    kind, _, text = option_words(field, default)
    line = f"{indent}{name}: {_value(default)}"
    told = f"{line}  # {'; '.join(filter(None, [kind, text]))}"
    if len(told) <= _WIDTH:
        yield told
    else:
        mark = f"{indent}# "
        for part in filter(None, [text, kind]):
            yield from textwrap.wrap(part, _WIDTH, initial_indent=mark, subsequent_indent=mark)
        yield line


def _value(default: Any) -> str:
    plain = isinstance(default, str) and yaml.safe_load(default) == default
    return default if plain else json.dumps(default, default=str)
