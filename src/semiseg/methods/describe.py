"""What `semiseg methods` shows, taken from the registered classes themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from semiseg.api import MethodInfo
from semiseg.methods.base import Entry
from semiseg.option_words import option_words


def describe(entry: Entry) -> MethodInfo:
    """Name, paper, idea and options of a registered method."""
    options = {
        name: option_words(field, entry.options.get(name, field.get_default(call_default_factory=True)))
        for name, field in entry.cls.Config.model_fields.items()
    }
    idea = inspect.getdoc(entry.cls) or ""
    if entry.options:
        changed = ", ".join(f"{name}={value}" for name, value in entry.options.items())
        idea = f"Variant with {changed}.\n\n{idea}"
    return MethodInfo(entry.name, entry.title, entry.paper, idea, options)


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
    return "\n".join(lines)
