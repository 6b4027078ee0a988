"""DICOM files written element by element: frames, classes and encodings that no library here writes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = "1.2.826.0.1.3680043.8.498.5"
EXPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
CT, PET, ENHANCED_MR = (f"1.2.840.10008.5.1.4.1.1.{kind}" for kind in ("2", "128", "4.1"))
CONTOURS = "1.2.840.10008.5.1.4.1.1.481.3"

Elements = dict[tuple[int, int], bytes]
Triple = tuple[float, float, float]


def element(group: int, number: int, kind: str, value: bytes | str | Sequence[float] | int) -> Elements:
    """One element in explicit little endian."""
    if isinstance(value, int):
        value = struct.pack("<H", value)
    elif isinstance(value, str):
        value = value.encode()
    elif not isinstance(value, bytes):
        value = "\\".join(f"{part:.9g}" for part in value).encode()
    value += (b"\0" if kind == "UI" else b" ") * (len(value) % 2)
    head = struct.pack("<2H", group, number) + kind.encode()
    length = struct.pack("<2xI" if kind in ("OW", "SQ") else "<H", len(value))
    return {(group, number): head + length + value}


def sequence(group: int, number: int, items: Sequence[Elements]) -> Elements:
    """A sequence of items of known length."""
    parts = [b"".join(item[tag] for tag in sorted(item)) for item in items]
    content = b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<I", len(part)) + part for part in parts)
    return element(group, number, "SQ", content)


def image(
    pixels: np.ndarray, kind: str, *, series: str = f"{ROOT}.1", sides: Sequence[float] = (1.0, 1.0), number: int = 1
) -> Elements:
    """Elements of an image `[rows, columns]` or `[frames, rows, columns]` of 16 bits."""
    frames = element(0x28, 0x08, "IS", str(len(pixels))) if pixels.ndim == 3 else {}
    return {
        **element(0x08, 0x16, "UI", kind),
        **element(0x08, 0x18, "UI", f"{series}.{number}"),
        **element(0x08, 0x60, "CS", "MR"),
        **element(0x20, 0x0D, "UI", f"{ROOT}.9"),
        **element(0x20, 0x0E, "UI", series),
        **element(0x20, 0x52, "UI", f"{ROOT}.8"),
        **element(0x28, 0x02, "US", 1),
        **element(0x28, 0x04, "CS", "MONOCHROME2"),
        **frames,
        **element(0x28, 0x10, "US", pixels.shape[-2]),
        **element(0x28, 0x11, "US", pixels.shape[-1]),
        **element(0x28, 0x30, "DS", sides),
        **element(0x28, 0x0100, "US", 16),
        **element(0x28, 0x0101, "US", 16),
        **element(0x28, 0x0102, "US", 15),
        **element(0x28, 0x0103, "US", int(pixels.dtype.kind == "i")),
        **element(0x7FE0, 0x10, "OW", pixels.tobytes()),
    }


def placed(position: Triple, orientation: Sequence[float] = (1, 0, 0, 0, 1, 0)) -> Elements:
    """Where a slice lies, LPS mm."""
    return {**element(0x20, 0x32, "DS", position), **element(0x20, 0x37, "DS", orientation)}


def scaled(slope: float, intercept: float = 0) -> Elements:
    """What stored values stand for."""
    return {**element(0x28, 0x1052, "DS", [intercept]), **element(0x28, 0x1053, "DS", [slope])}


def frames(positions: Sequence[Triple], slopes: Sequence[float] = ()) -> Elements:
    """Places, and scalings if there are any, frame by frame, of an enhanced image."""
    groups = [
        {
            **sequence(0x20, 0x9113, [element(0x20, 0x32, "DS", position)]),
            **({**sequence(0x28, 0x9145, [scaled(slopes[number])])} if slopes else {}),
        }
        for number, position in enumerate(positions)
    ]
    shared = {
        **sequence(0x20, 0x9116, [element(0x20, 0x37, "DS", (1, 0, 0, 0, 1, 0))]),
        **sequence(0x28, 0x9110, [element(0x28, 0x30, "DS", (1.0, 1.0))]),
    }
    return {**sequence(0x5200, 0x9229, [shared]), **sequence(0x5200, 0x9230, groups)}


def write(path: Path, elements: Elements, syntax: str = EXPLICIT) -> Path:
    """A file with preamble and its own group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = {
        **element(0x02, 0x02, "UI", CT),
        **element(0x02, 0x03, "UI", f"{ROOT}.7"),
        **element(0x02, 0x10, "UI", syntax),
    }
    own = b"".join(meta[tag] for tag in sorted(meta))
    size = b"\x02\0\0\0UL\x04\0" + struct.pack("<I", len(own))
    content = b"".join(elements[tag] for tag in sorted(elements))
    if syntax == DEFLATED:
        packer = zlib.compressobj(wbits=-15)
        content = packer.compress(content) + packer.flush()
    path.write_bytes(bytes(128) + b"DICM" + size + own + content)
    return path
