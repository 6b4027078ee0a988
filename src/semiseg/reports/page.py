"""The page around the sections: one file, with a policy that forbids every request.

Templates escape every value. What they may take as markup comes from this package alone: its style, its script, charts.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from semiseg.reports.charts import style_of
from semiseg.reports.words import percent, printable


@dataclass(frozen=True)
class Section:
    """A part of the report: the facts that `templates/TEMPLATE.html` shows."""

    anchor: str
    title: str
    template: str
    facts: Any


@dataclass(frozen=True)
class Table:
    """Rows of texts, numbers, or runs, which are shown with their line style and name."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[object]]


def render(title: str, outcomes: Sequence[object], sections: Sequence[Section], version: str) -> str:
    """The whole document."""
    style, script = _asset("report.css"), _asset("report.js")
    facts = {"title": title, "outcomes": outcomes, "sections": sections, "version": version}
    page = environment().get_template("page.html")
    return page.render(facts, policy=policy(style, script), style=style, script=script)


@cache
def environment() -> Environment:
    """How templates are read: whatever they print is escaped."""
    loader = PackageLoader("semiseg.reports")
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, finalize=_printed)
    found.trim_blocks = found.lstrip_blocks = found.keep_trailing_newline = True
    found.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    found.filters |= {"percent": percent, "style": style_of}
    found.tests["numeric"] = lambda cell: str(cell)[:1].isdigit()
    return found


def _printed(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return value if hasattr(value, "__html__") else printable(str(value))


def policy(style: str, script: str) -> str:
    """Content security policy: this style, this script, pictures inside the file, and nothing else."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _asset(name: str) -> Markup:
    return Markup(files(__package__).joinpath(name).read_text(encoding="utf-8"))  # nosec B704
