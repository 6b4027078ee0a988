"""Numbers and names as a report writes them."""

from __future__ import annotations

import math
import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Control characters, those that turn the direction of the text around them, and halves of characters."""


def printable(text: str) -> str:
    """Text without characters that no page can show."""
    return _CONTROL.sub("\ufffd", text)


def clipped(name: str, length: int) -> str:
    """A name that fits, its end replaced by an ellipsis where it does not."""
    return name if len(name) <= length else name[: length - 1] + "\u2026"


def percent(value: float) -> str:
    """A share in percent, one decimal; a dash where there is none."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def number(value: float, digits: int = 2) -> str:
    """A number with that many decimals; a dash where there is no value."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def short(value: float) -> str:
    """A number for an axis."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e9 and value % 1 == 0 else f"{value:.3g}"
