"""What there is: methods and presets."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semiseg.methods.base import Entry
    from semiseg.papers import Table
    from semiseg.settings.presets import Preset


@dataclass(frozen=True)
class MethodInfo:
    """A method as `semiseg methods` shows it.

    Attributes:
        options: type, default and description of each option.
        tables: ablations of its paper, each row with the settings that replay it.
    """

    name: str
    title: str
    paper: str
    idea: str
    options: Mapping[str, tuple[str, Any, str]]
    tables: Sequence[Table] = ()


def describe(entry: Entry) -> MethodInfo:
    """Name, paper, idea, options and ablations of a registered method."""
    from semiseg.papers import paper_of
    from semiseg.settings.option_words import option_words

    options = {
        name: option_words(field, entry.options.get(name, field.get_default(call_default_factory=True)))
        for name, field in entry.cls.Config.model_fields.items()
    }
    idea = inspect.getdoc(entry.cls) or ""
    if entry.options:
        changed = ", ".join(f"{name}={value}" for name, value in entry.options.items())
        idea = f"Variant with {changed}.\n\n{idea}"
    paper = paper_of(entry)
    return MethodInfo(entry.name, entry.title, entry.paper, idea, options, paper.tables if paper else ())


def list_methods() -> Sequence[MethodInfo]:
    """All methods with papers, ideas, options, and the rows of their papers' ablations as settings."""
    from semiseg.methods.base import registry

    return [describe(item) for item in registry().values()]


def list_presets() -> Sequence[Preset]:
    """The papers' settings, one preset per dataset."""
    from semiseg.settings.presets import names, preset

    return [preset(name) for name in names()]
