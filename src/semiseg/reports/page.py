"""The page around the sections: one file, with a policy that forbids every request."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from semiseg.reports.markup import Markup, join, raw, tag


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    anchor: str
    title: str
    body: Markup


def page(title: str, lead: Markup, sections: Sequence[Section], footer: Markup) -> str:
    """The whole document."""
    style, script = _asset("report.css"), _asset("report.js")
    head = join(
        [
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=policy(style, script)),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="referrer", content="no-referrer"),
            tag("title", title),
            raw("style", style),
        ]
    )
    links = [tag("a", section.title, href=f"#{section.anchor}") for section in sections]
    body = [tag("section", tag("h2", section.title), section.body, id=section.anchor) for section in sections]
    content = join(
        [
            tag("a", "Skip to the results", href=f"#{sections[0].anchor}", class_="skip"),
            tag("header", tag("h1", title), lead),
            tag("nav", *links, aria_label="Sections"),
            tag("main", *body),
            tag("footer", footer),
            raw("script", script),
        ]
    )
    return "<!doctype html>\n" + tag("html", tag("head", head), tag("body", content), lang="en") + "\n"


def policy(style: str, script: str) -> str:
    """Content security policy: this style, this script, pictures inside the file, and nothing else."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
