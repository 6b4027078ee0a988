"""Presets as text for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from semiseg.settings.presets import Preset, preset


def overview(presets: Iterable[Preset]) -> str:
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


def page(name: str) -> str:
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
