"""Settings fields as a person would describe them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def option_words(field: FieldInfo, default: Any) -> tuple[str, Any, str]:
    """Type with bounds, default and description of a settings field, for people."""
    kind = _words(field.annotation)
    bounds = ", ".join(_words(bound) for bound in _told(field.metadata))
    return f"{kind}, {bounds}" if bounds else kind, default, field.description or ""


_SIGNS = {
    "ge": "at least",
    "gt": "above",
    "le": "at most",
    "lt": "below",
    "multiple_of": "a multiple of",
    "min_length": "of length at least",
}


def _told(metadata: Iterable[Any]) -> Iterator[Any]:
    """The bounds among what annotates a type; validators have no words."""
    return (bound for bound in metadata if any(hasattr(bound, sign) for sign in _SIGNS))


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
        kind, *marks = get_args(thing)
        bounds = [bound for mark in marks if isinstance(mark, FieldInfo) for bound in _told(mark.metadata)]
        return ", ".join(_words(part) for part in (kind, *bounds))
    if get_origin(thing) is tuple:
        return "a list of " + _words(get_args(thing)[0])
    if get_origin(thing) is dict or (isinstance(thing, type) and issubclass(thing, BaseModel)):
        return "settings by name"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", Path: "a path"}
    return names.get(thing, str(thing))
