"""What `semiseg methods` shows, taken from the registered classes themselves."""

from __future__ import annotations

import inspect
import shlex
import textwrap
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from semiseg.api import MethodInfo
from semiseg.methods.base import Entry
from semiseg.papers import Row, Table, paper_of


def describe(entry: Entry) -> MethodInfo:
    """Name, paper, idea, options and ablations of a registered method."""
    options = {
        name: _option(field, entry.options.get(name, field.get_default(call_default_factory=True)))
        for name, field in entry.cls.Config.model_fields.items()
    }
    idea = inspect.getdoc(entry.cls) or ""
    if entry.options:
        changed = ", ".join(f"{name}={value}" for name, value in entry.options.items())
        idea = f"Variant with {changed}.\n\n{idea}"
    paper = paper_of(entry)
    return MethodInfo(entry.name, entry.title, entry.paper, idea, options, paper.tables if paper else ())


def overview(infos: Iterable[MethodInfo]) -> str:
    """One line per method: name and the first sentence of its idea."""
    rows = [(info.name, info.idea.split("\n\n")[0].replace("\n", " ")) for info in infos]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {idea}" for name, idea in rows]
    return "\n".join([*lines, "", "semiseg methods NAME shows the paper and all options."])


def page(info: MethodInfo) -> str:
    """Everything about one method."""
    lines = [f"{info.name}: {info.title} ({info.paper})", "", info.idea, "", "Options (--set options.NAME=VALUE):"]
    for name, (kind, default, text) in info.options.items():
        lines += [f"  {name} = {default!r}   [{kind}]", f"      {text}"]
    if info.tables:
        lines += ["", "Tables of the paper (with Dice in %), each row with the settings that replay it:"]
        lines += [line for table in info.tables for line in _table(table, info.name)]
        number = info.tables[0].number
        command = f"semiseg methods {info.name} --table {shlex.quote(number)}"
        lines += ["", f"The commands of a table, with the paper's network: {command}"]
    return "\n".join(lines)


def _table(table: Table, method: str) -> list[str]:
    where = ", ".join(map(str, table.setups))
    lines = ["", f"  {table.title}: {table.varies} ({where})"]
    for row in table.rows:
        found = [table.figure(row, setup) for setup in table.setups]
        dice = ", ".join("-" if figure is None else str(figure) for figure in found)
        lines += [f"    {row.name}: {dice}" if any(found) else f"    {row.name}", f"        {arguments(row, method)}"]
    return [*lines, *textwrap.wrap(table.note, 114, initial_indent="    ", subsequent_indent="    ")]


def arguments(row: Row, method: str) -> str:
    """What `row` adds to `semiseg train DATA --method METHOD`."""
    other = [] if row.method == method else ["--method", row.method]
    words = [*other, *(word for assignment in row.assignments() for word in ("--set", assignment))]
    return shlex.join(words) if words else "the defaults"


def _option(field: FieldInfo, default: Any) -> tuple[str, Any, str]:
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
