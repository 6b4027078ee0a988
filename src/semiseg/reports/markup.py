"""HTML that cannot be broken by what is in it: every string is escaped unless it is markup already."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
"""Control characters, and those that turn the direction of the text around them."""

Attribute = str | int | float | bool | None


class Markup(str):
    """Finished HTML or SVG; only functions of this module make it."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Any value as HTML text; markup stays as it is."""
    return value if isinstance(value, Markup) else Markup(escape(_CONTROL.sub("\ufffd", str(value)), quote=True))


def join(parts: Iterable[object]) -> Markup:
    """Parts one after the other, each escaped unless it is markup."""
    return Markup("".join(map(text, parts)))


def tag(name: str, /, *children: object, **attributes: Attribute) -> Markup:
    """An element. A trailing underscore of an attribute's name is dropped, the others become hyphens.

    Attributes that are None or False are left out, True stands alone.
    """
    given = "".join(map(_attribute, attributes.items()))
    if name in ("input", "meta", "br"):
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{join(children)}</{name}>")


def raw(name: str, content: str, **attributes: Attribute) -> Markup:
    """A `script` or `style` element, whose content is not escaped: it must be the package's own, or `inert`."""
    given = "".join(map(_attribute, attributes.items()))
    return Markup(f"<{name}{given}>{content}</{name}>")


def inert(json: str) -> str:
    """JSON that can stand inside a `script` element: no character in it begins a tag or a comment."""
    return json.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _attribute(pair: tuple[str, Attribute]) -> str:
    name, value = pair
    if value is None or value is False:
        return ""
    shown = name.rstrip("_").replace("_", "-")
    return f" {shown}" if value is True else f' {shown}="{text(_number(value))}"'


def _number(value: str | int | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
