"""Output in the characters that a terminal or file has: what it has not is written in others, and ends nothing."""

from __future__ import annotations

import codecs
import io
import unicodedata
from typing import TextIO

_PLAIN = {"─": "-", "━": "-", "│": "|", "±": "+/-", "·": "-", "×": "x", "−": "-", "–": "-", "…": "...", "→": "->"}
_BARS = "▁▂▃▄▅▆▇█"
_HANDLER = "semiseg.plain"


def encodable(*streams: TextIO) -> None:
    """Let these streams write any text, whatever their character set: Windows and old locales have few signs."""
    codecs.register_error(_HANDLER, _replaced)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(sign: str) -> str:
    """`sign` in ASCII: a stand-in, its letter without accents, or a question mark."""
    if sign in _BARS:
        return ".:-=+*%#"[_BARS.index(sign)]
    letters = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return _PLAIN.get(sign) or letters or "?"
