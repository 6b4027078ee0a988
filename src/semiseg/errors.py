"""Problems of the user's input, told all at once and with their remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """One or more problems of files, settings or arguments.

    The command line prints every problem on a line of its own and exits with status 2; nothing else in the
    package catches it. Anything that is *not* an `InputError` is a bug and keeps its traceback.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def raise_all(problems: Iterable[str]) -> None:
    """Raise one `InputError` that holds all `problems`; do nothing when there are none."""
    found = tuple(problems)
    if found:
        raise InputError(*found)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A half-sentence that names the nearest known name, or lists what is known."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(names)}"
