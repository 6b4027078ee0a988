"""Problems of the user's input, told all at once and with their remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

_LONGEST, _TAIL = 2000, 300
_SHOWN = 160


class InputError(Exception):
    """One or more problems of files, settings or arguments.

    The command line prints every problem on a line of its own and exits with status 2; nothing else in the
    package catches it. Anything that is *not* an `InputError` is a bug and keeps its traceback.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(map(one_line, problems))
        super().__init__("\n".join(self.problems))


def raise_all(problems: Iterable[str]) -> None:
    """Raise one `InputError` that holds all `problems`; do nothing when there are none."""
    found = tuple(problems)
    if found:
        raise InputError(*found)


def one_line(text: str) -> str:
    """`text` on one line that steers no terminal: what cannot be printed is escaped, the middle of much is left out."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - _TAIL]} ... {text[-_TAIL:]}"
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def shown(value: Any) -> str:
    """`value` in a message: as Python writes it, without its end where that is long."""
    try:
        text = repr(value)
    except ValueError:  # a number of more digits than Python writes
        return f"a {type(value).__name__} too long to be shown"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def some(names: Iterable[str], most: int = 5) -> str:
    """The first of some names in a line, and how many there are more."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def find(kind: str, name: str, known: Mapping[str, T]) -> T:
    """What is known under `name`.

    Raises:
        InputError: nothing is; `kind` says what was looked for, and the nearest name is suggested.
    """
    if name not in known:
        raise InputError(f"unknown {kind} {name!r}: {did_you_mean(name, known)}")
    return known[name]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A half-sentence that names the nearest known name, or lists what is known."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name[:_SHOWN], names, n=1)  # takes minutes for a name of a million letters
    return f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(names)}"
