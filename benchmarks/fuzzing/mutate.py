"""Damage to files: bytes as a bad disk or a hostile hand leaves them, and documents with wrong values in them."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import yaml

Mutator = Callable[[Random, bytes, Sequence[bytes]], bytes]

_HEADER = 640
"""Bytes in which most binary formats keep what they say of themselves."""

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_NUMBERS = [
    b"0",
    b"-1",
    b"1",
    b"7",
    b"65536",
    b"2147483647",
    b"4294967296",
    b"9223372036854775807",
    b"1e308",
    b"1e-300",
]
_NUMBERS += [b"nan", b"inf", b"-0.0", b"9" * 400, b"99999"]
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, -0.5, 1e308, 1e-300, float("nan"), float("inf")),
    *("", " ", "a", "..", "../../etc/passwd", "/etc/passwd", "a/b", "C:\\a", "a\0b", "a\nb", "\x1b[31m", "\ud800", "9"),
    *("nan", "x" * 5000, "<script>alert(1)</script>", [], {}, [[]], [None], {"": None}, {"a": {"b": []}}, [0, "a", []]),
)


def flip(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Turn one to eight bits over."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 8)):
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def flip_in_header(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Turn one to four bits over where the header is."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        changed[random.randrange(min(len(data), _HEADER))] ^= 1 << random.randrange(8)
    return bytes(changed)


def truncate(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Cut the end off, often by little or within the header."""
    return data[
        : random.choice((random.randrange(len(data)), len(data) - 1, random.randrange(min(len(data), _HEADER))))
    ]


def extreme(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Write a number at the end of its range over a field, mostly in the header."""
    kind = random.choice("bhiqfd")
    width = struct.calcsize(kind)
    bits = 8 * width
    if kind in "fd":
        value: Any = random.choice((float("nan"), float("inf"), 3e38, -3e38, 1e-38, 0.0))
    else:
        value = random.choice(
            (0, 1, -1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), 2 ** (bits // 2), random.randrange(256) - 128)
        )
    field = struct.pack(random.choice("<>") + kind, value)
    end = len(data) if random.random() < 0.25 else min(len(data), _HEADER)
    at = random.randrange(max(end - width, 1))
    return data[:at] + field + data[at + width :]


def insert(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Put random bytes in between."""
    at = random.randrange(len(data))
    return data[:at] + random.randbytes(random.choice((1, 3, 16, 300))) + data[at:]


def zero(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A range of zeros, as a hole in a file reads."""
    at, length = random.randrange(len(data)), random.choice((1, 8, 64, 512, len(data)))
    hole = data[at : at + length]
    return data[:at] + bytes(len(hole)) + data[at + length :]


def double(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A block twice, as a copy that was resumed wrongly."""
    at, length = random.randrange(len(data)), random.choice((1, 8, 64, 512, 4096))
    return data[: at + length] + data[at : at + length] + data[at + length :]


def drop(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A block left out."""
    at = random.randrange(len(data))
    return data[:at] + data[at + random.choice((1, 2, 8, 64, 512)) :]


def splice(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """The beginning of one file and the end of another."""
    other = random.choice(others)
    return data[: random.randrange(len(data))] + other[random.randrange(max(len(other), 1)) :]


def number(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Replace a decimal number in text."""
    found = list(_NUMBER.finditer(data[: 1 << 14]))
    if not found:
        return flip(random, data, ())
    match = random.choice(found)
    return data[: match.start()] + random.choice(_NUMBERS) + data[match.end() :]


def line(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Leave a line of text out, double it, or put it elsewhere."""
    lines = data[: 1 << 14].split(b"\n")
    taken = lines.pop(random.randrange(len(lines)))
    for _ in range(random.randint(0, 2)):
        lines.insert(random.randrange(len(lines) + 1), taken)
    return b"\n".join(lines) + data[1 << 14 :]


BINARY: tuple[Mutator, ...] = (flip, flip_in_header, truncate, extreme, extreme, insert, zero, double, drop, splice)
TEXT_HEADER: tuple[Mutator, ...] = (*BINARY, number, number, number, line, line)


def document(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change a JSON or YAML document where a person or a program might: other values, names, levels."""
    if random.random() < 0.3:
        return random.choice((flip, truncate, insert, drop, splice, number, line, double))(random, data, others)
    is_json = data.lstrip()[:1] in (b"{", b"[")
    content = json.loads(data) if is_json else yaml.safe_load(data)
    for _ in range(random.randint(1, 3)):
        content = _changed(random, content)
    if is_json:
        return json.dumps(content, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    if random.random() < 0.05:
        return data + random.choice(_YAML)
    return yaml.dump(content, allow_unicode=True).encode("utf-8", "surrogatepass")


_BOMB = b"\n".join(
    [b"bomb0: &b0 [x, x, x, x, x, x, x, x, x, x]"]
    + [b"bomb%d: &b%d [%s]" % (i, i, b", ".join([b"*b%d" % (i - 1)] * 10)) for i in range(1, 10)]
)
_YAML = (
    b"\n" + _BOMB + b"\noptions: {deep: *b9}\n",
    b"\noptions: &a {again: *a}\n",
    b"\nsteps: !!python/object/apply:os.system ['touch pwned']\n",
    b"\nsteps: !!int ''\n",
    b"\nsteps: !!bool maybe\n",
    b"\nsteps: !!timestamp x\n",
    b"\nsteps: 2001-99-99\n",
    b"\nsteps: " + b"9" * 5000 + b"\n",
    b"\noptions: " + b"[" * 3000 + b"\n",
    b"\n? [a, b]\n: c\n",
    b"\n? {a: b}\n: c\n",
    b"\n1: 2\n",
    b"\n<<: 3\n",
)


def _changed(random: Random, value: Any) -> Any:
    """`value` with something in it replaced, left out, doubled or renamed."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        name = random.choice(list(value))
        way = random.random()
        rest = {key: item for key, item in value.items() if key != name}
        if way < 0.12:
            return rest
        if way < 0.2:
            return {**value, _text(random): value[name]}
        if way < 0.3:
            return {**rest, _text(random): value[name]}
        return {**value, name: _changed(random, value[name])}
    if isinstance(value, list) and value and random.random() < 0.9:
        at = random.randrange(len(value))
        way = random.random()
        if way < 0.15:
            return value[:at] + value[at + 1 :]
        if way < 0.25:
            return [*value, *value]
        return [*value[:at], _changed(random, value[at]), *value[at + 1 :]]
    return random.choice(_VALUES)


def _text(random: Random) -> str:
    return random.choice([value for value in _VALUES if isinstance(value, str)])


DOCUMENT: tuple[Mutator, ...] = (document,)


def mutated(random: Random, data: bytes, others: Sequence[bytes], ways: Sequence[Mutator]) -> tuple[bytes, str]:
    """One to three changes one after the other, and their names."""
    names = []
    for _ in range(random.choice((1, 1, 1, 2, 3)) if ways is not DOCUMENT else 1):
        way = random.choice(ways)
        data = way(random, data or b"\0", others)
        names.append(way.__name__)
    return data, "+".join(names)
