"""What the lists show: methods, presets and importers as text, taken from these themselves."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from semiseg.api.lists import MethodInfo
from semiseg.conversion.papers.base import Importer
from semiseg.methods.base import entry
from semiseg.methods.ideas import grouped
from semiseg.papers import Row, Table
from semiseg.settings.option_words import option_words
from semiseg.settings.presets import Preset, preset

_WIDTH = 80
"""Columns of a terminal."""


def method_overview(infos: Iterable[MethodInfo]) -> str:
    """Names and first sentences by idea, a method's variants below it, in lines that fit a terminal."""
    shown = {info.name: info for info in infos}
    mains = [name for name in shown if not entry(name).options]
    width = max(map(len, mains)) + 4
    lines = []
    for idea, names in grouped(mains).items():
        lines += [*textwrap.wrap(f"{idea.name.capitalize()}: {idea.sentence}", _WIDTH), ""]
        for name in names:
            text = shown[name].idea.split("\n\n")[0].replace("\n", " ")
            lines += textwrap.wrap(text, _WIDTH, initial_indent=f"  {name:<{width - 2}}", subsequent_indent=" " * width)
            others = [other for other in shown if other != name and entry(other).cls is entry(name).cls]
            lines += _beside(f"variants: {', '.join(others)}", width) if others else []
        lines.append("")
    return "\n".join([*lines, "semiseg methods NAME shows the paper and all options."])


def _beside(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=" " * width, subsequent_indent=" " * width, break_on_hyphens=False
    )


def method_page(info: MethodInfo) -> str:
    """Everything about one method."""
    lines = [f"{info.name}: {info.title} ({info.paper})", "", info.idea, "", "Options (--set options.NAME=VALUE):"]
    for name, (kind, default, text) in info.options.items():
        lines += [f"  {name} = {default!r}   [{kind}]", f"      {text}"]
    if info.tables:
        lines += ["", "Tables of the paper (with Dice in %), each row with what it changes in the preset's settings:"]
        lines += [line for table in info.tables for line in _table(table, info.name)]
        number = info.tables[0].number
        command = f"semiseg methods {info.name} --table {shlex.quote(number)}"
        lines += ["", f"The commands of a table, on the presets of its data: {command}"]
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
    """What `row` adds to `semiseg train DATA --preset PRESET --method METHOD`."""
    other = [] if row.method == method else ["--method", row.method]
    words = [*other, *(word for assignment in row.assignments for word in ("--set", assignment))]
    return shlex.join(words) if words else "as the preset of the data has it"


def preset_overview(presets: Iterable[Preset]) -> str:
    """One line per preset: name, dataset, methods with own settings, label budgets."""
    found = list(presets)
    width = max(len(item.name) for item in found)
    lines = []
    for item in found:
        lines.append(f"{item.name:<{width}}  {item.title}")
        lines.append(f"{'':<{width}}  methods: {', '.join(item.methods)}; labelled: {', '.join(item.budgets)}")
    return "\n".join(
        [*lines, "", "semiseg presets NAME shows all settings; semiseg train DATA --preset NAME uses them."]
    )


def preset_page(name: str) -> str:
    """Everything that the preset `name` sets, as YAML, with its sources and notes."""
    found = preset(name)
    parts: dict[str, Any] = {
        "plan": found.plan,
        "run": found.run,
        "paper (only with protocol: paper)": found.paper,
        "methods": {
            method: {**own.run, **({"paper": own.paper} if own.paper else {}), **_notes(own.notes)}
            for method, own in found.methods.items()
        },
        "budgets": {key: budget.model_dump(exclude_defaults=True) for key, budget in found.budgets.items()},
    }
    text = yaml.safe_dump(_plain({key: part for key, part in parts.items() if part}), sort_keys=False, width=110)
    lines = [f"{name}: {found.title}", "", "Sources:", *(f"  {source}" for source in found.sources), "", text.rstrip()]
    if found.notes:
        lines += ["", "Notes:", *(f"  - {note}" for note in found.notes)]
    return "\n".join(lines)


def _notes(notes: tuple[str, ...]) -> dict[str, Any]:
    return {"notes": list(notes)} if notes else {}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def importer_overview(all_of_them: Iterable[Importer]) -> str:
    """Name, title and source of each dataset."""
    lines = []
    for item in all_of_them:
        lines += [f"{item.name}: {item.title}", f"    {item.where}"]
    return "\n".join([*lines, "", "semiseg import NAME shows the expected files and all options."])


def importer_page(item: Importer) -> str:
    """Everything about one dataset."""
    lines = [f"{item.name}: {item.title}", "", f"Where: {item.where}", "", "Known layouts (found by themselves):"]
    lines += [f"  {layout.name}: {layout.expected}" for layout in item.layouts]
    fields = item.options.model_fields
    if fields:
        lines += ["", "Options (--set NAME=VALUE):"]
    for name, field in fields.items():
        kind, default, text = option_words(field, field.get_default(call_default_factory=True))
        lines += [f"  {name} = {default!r}   [{kind}]", f"      {text}"]
    return "\n".join([*lines, "", f"semiseg import {item.name} SRC -o DATA"])
