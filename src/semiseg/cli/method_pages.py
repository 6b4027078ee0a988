"""What `semiseg methods` shows, taken from the registered classes themselves."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable

from semiseg.api.lists import MethodInfo
from semiseg.papers import Row, Table


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
