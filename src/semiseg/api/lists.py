"""What there is: methods and presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semiseg.papers import Table
    from semiseg.presets import Preset


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


def list_methods() -> Sequence[MethodInfo]:
    """All methods with papers, ideas, options, and the rows of their papers' ablations as settings."""
    from semiseg.methods.base import registry
    from semiseg.methods.describe import describe

    return [describe(item) for item in registry().values()]


def list_presets() -> Sequence[Preset]:
    """The papers' settings, one preset per dataset."""
    from semiseg.presets import names, preset

    return [preset(name) for name in names()]
