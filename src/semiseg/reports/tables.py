"""Pieces of HTML that all sections use."""

from __future__ import annotations

from collections.abc import Sequence

from semiseg.reports.markup import Markup, join, tag
from semiseg.reports.records import Record


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> Markup:
    """A table that scrolls sideways on narrow screens, also by the keyboard."""
    head = tag("tr", *(tag("th", name, scope="col") for name in heads))
    body = [tag("tr", *(tag("td", cell, class_="number" if _numeric(cell) else None) for cell in row)) for row in rows]
    whole = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _numeric(cell: object) -> bool:
    return not isinstance(cell, Markup) and str(cell)[:1].isdigit()


def run_label(record: Record) -> Markup:
    """Key and name of a run."""
    return join([tag("b", record.key), " ", record.name])


def index_of(record: Record) -> int:
    """Position of a run in the report, from its key."""
    index = 0
    for letter in record.key:
        index = 26 * index + ord(letter) - ord("A") + 1
    return index - 1


def source(records: Sequence[Record], file: str, command: str) -> Markup:
    """Where the numbers above come from, and the command that makes them."""
    parts = []
    for record in records:
        if file == "log.jsonl" or record.scores is not None:
            parts.append(
                join([f"{record.key}: ", tag("code", f"{record.name}/{file}"), " by ", _command(command, record)])
            )
    return tag("p", "Source: ", _listed(parts), class_="source") if parts else Markup()


def _command(command: str, record: Record) -> Markup:
    return tag("code", f"semiseg {command} {record.name}" if command != "train" else "semiseg train")


def _listed(parts: Sequence[Markup]) -> Markup:
    return join(piece for index, part in enumerate(parts) for piece in ((", ", part) if index else (part,)))


def facts(pairs: Sequence[tuple[str, object]]) -> Markup:
    """A list of names and values; empty values are left out."""
    shown = [(name, value) for name, value in pairs if value not in (None, "", (), [])]
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in shown))
