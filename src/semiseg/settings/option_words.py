"""Settings fields as a person would describe them."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo


def option_words(field: FieldInfo, default: Any) -> tuple[str, Any, str]:
    """Type with bounds, default and description of a settings field, for people."""
    kind = _words(field.annotation)
    bounds = ", ".join(_words(bound) for bound in field.metadata)
    return f"{kind}, {bounds}" if bounds else kind, default, field.description or ""


_SIGNS = {
    "ge": "at least",
    "gt": "above",
    "le": "at most",
    "lt": "below",
    "multiple_of": "a multiple of",
    "min_length": "of length at least",
}


def _words(thing: Any) -> str:
    """A type or bound as a person would write it."""
    for sign, words in _SIGNS.items():
        if hasattr(thing, sign):
            return f"{words} {getattr(thing, sign)}"
    if get_origin(thing) is Literal:
        return "one of " + ", ".join(map(str, get_args(thing)))
    if get_origin(thing) in (Union, UnionType):
        if all(get_origin(part) is Literal for part in get_args(thing)):
            return "one of " + ", ".join(str(value) for part in get_args(thing) for value in get_args(part))
        return " or ".join("null" if part is NoneType else _words(part) for part in get_args(thing))
    if get_origin(thing) is Annotated:
        return ", ".join(_words(part) for part in (get_args(thing)[0], *get_args(thing)[1].metadata))
    if get_origin(thing) is tuple:
        return "a list of " + _words(get_args(thing)[0])
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    return names.get(thing, str(thing))
