"""Typed settings from untyped input, with every mistake told at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from semiseg.errors import InputError, did_you_mean, shown
from semiseg.system.documents import parse_json, parse_yaml, read_text

M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], values: Mapping[str, Any], source: str) -> M:
    """`model` filled from `values`.

    Raises:
        InputError: one problem per wrong, missing or unknown field; unknown names come with the nearest known one.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise InputError(*(_problem(model, item, source) for item in error.errors())) from None


def _problem(model: type[BaseModel], item: Any, source: str) -> str:
    path = [str(part) for part in item["loc"]]
    name = ".".join(path)
    if item["type"] == "extra_forbidden":
        elsewhere = [dotted for dotted in _dotted(model) if dotted.split(".")[-1] == path[-1]]
        meant = f"did you mean {elsewhere[0]!r}?" if elsewhere else did_you_mean(path[-1], _fields(model, path[:-1]))
        return f"{source}: unknown setting {shown(name)}: {meant}"
    if item["type"] == "missing":
        return f"{source}: setting {name!r} is missing"
    came = f" (came: {shown(item['input'])})" if item["type"] != "value_error" else ""
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{source}: {name + ': ' if name else ''}{message}{came}"


def _fields(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        found = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(found, type) and issubclass(found, BaseModel)):
            return []
        model = found
    return list(model.model_fields)


def _dotted(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Names of all settings with those of the groups that they stand in, `optimiser.lr`."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _dotted(kind, f"{prefix}{name}.")


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML (or JSON) file.

    Raises:
        InputError: the file cannot be read, is no YAML, or holds no mapping.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise InputError(f"{path}: cannot be read: there is no such file: {_beside(path)}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: expected YAML or JSON: {error}") from None
    try:
        values = parse_json(text)
    except ValueError:
        try:
            values = parse_yaml(text)
        except ValueError as error:
            raise InputError(f"{path}: expected YAML or JSON: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a mapping of settings, came {type(values).__name__}")
    odd = [name for name in values if not isinstance(name, str)]
    if odd:
        raise InputError(f"{path}: expected names of settings in front of colons, came {shown(odd[0])}: correct it")
    return values


def _beside(path: Path) -> str:
    """The file that may have been meant, of those that are there."""
    others = [file.name for file in path.parent.glob(f"*{path.suffix}")] if path.parent.is_dir() else []
    return did_you_mean(path.name, others) if others else "check the path"
