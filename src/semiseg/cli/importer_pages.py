"""What `semiseg import` shows of the datasets."""

from __future__ import annotations

from collections.abc import Iterable

from semiseg.conversion.papers.base import Importer
from semiseg.settings.option_words import option_words


def overview(all_of_them: Iterable[Importer]) -> str:
    """Name, title and source of each dataset."""
    lines = []
    for item in all_of_them:
        lines += [f"{item.name}: {item.title}", f"    {item.where}"]
    return "\n".join([*lines, "", "semiseg import NAME shows the expected files and all options."])


def page(item: Importer) -> str:
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
