"""The elements of a DICOM file, walked through without a library: lengths that lie make GDCM take gigabytes.

Part 10 of the standard has the file's beginning, part 5 (section 7) its elements, part 6 their names.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from semiseg.errors import InputError

_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
"""Value representations with four bytes of length after two that are not used."""
_SHORT = {
    *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"),
    *(b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
}
"""Those with two bytes of length. GDCM reads another length than we after letters that are neither."""

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_SYNTAX, _SERIES, _PIXELS = (0x0002, 0x0010), (0x0020, 0x000E), (0x7FE0, 0x0010)
KIND, STUDY, REFERENCE = (0x0008, 0x0016), (0x0020, 0x000D), (0x0020, 0x0052)
"""SOP class, study and frame of reference of a file."""
POSITION, ORIENTATION, SIDES = (0x0020, 0x0032), (0x0020, 0x0037), (0x0028, 0x0030)
"""Of a slice or frame: first voxel (LPS mm), directions of row and column, and distances of rows and of columns."""
COUNT, BETWEEN, OFFSETS = (0x0028, 0x0008), (0x0018, 0x0088), (0x3004, 0x000C)
"""Number of frames, mm between slices, and, in doses, mm of each frame from the first one."""
INTERCEPT, SLOPE = (0x0028, 0x1052), (0x0028, 0x1053)
_TOP = {_SYNTAX, _SERIES, KIND, STUDY, REFERENCE, POSITION, ORIENTATION, SIDES, COUNT, BETWEEN, OFFSETS}
_SHARED, _FRAMES, _OF_FRAMES = (0x5200, 0x9229), (0x5200, 0x9230), {POSITION, ORIENTATION, SIDES, INTERCEPT, SLOPE}
_GROUPS = {(0x0020, 0x9113), (0x0020, 0x9116), (0x0028, 0x9110), (0x0028, 0x9145)}
"""Sequences of a frame that hold its place, orientation, voxel sides and scaling."""
_LONGEST_VALUE, _MOST_FRAMES = 1 << 20, 1 << 16
_IMPLICIT, _BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_BEGIN = b"\xfe\xff\x00\xe0"
"""An item, by which sequences are known where elements do not say of what kind they are."""
_NATIVE = {_IMPLICIT, _BIG_ENDIAN, "1.2.840.10008.1.2.1", ""}
_DEEPEST = 16
_FIRST = tuple(bytes((8, 0, element, 0)) for element in (0x00, 0x01, 0x05, 0x08, 0x12, 0x14, 0x16, 0x18))
"""Tags of the elements that may come first in a file that has none about itself."""
_LONGEST_NAME = 64

Tag = tuple[int, int]


class DeflatedError(InputError):
    """The whole content of a file is compressed, which may stand for any length."""


@dataclass(frozen=True)
class Elements:
    """What a file says of itself.

    Attributes:
        series: unique id of its series.
        packed: whether its voxels are compressed.
        image: whether it has voxels.
        tags: values of the file that say where its voxels lie.
        frames: such values of each frame, of a file that has them frame by frame.
    """

    series: str
    packed: bool
    image: bool
    tags: Mapping[Tag, str] = field(default_factory=dict)
    frames: tuple[Mapping[Tag, str], ...] = ()


def begins_as_dicom(start: bytes) -> bool:
    """Whether the first 132 bytes of a file are DICOM: a preamble, or the elements that stand first without one."""
    if start[128:] == b"DICM":
        return True
    explicit = start[4:6] in (b"UI", b"CS", b"UL") and start[7:8] == b"\0"
    implicit = start[5:8] == bytes(3) and 0 < start[4] <= _LONGEST_NAME and start[4] % 2 == 0
    return start[:4] in _FIRST and (explicit or implicit)


def walk(path: Path) -> Elements:
    """Walk through all elements of a DICOM file.

    Raises:
        OSError: the file cannot be read.
        DeflatedError: its elements are compressed.
        ValueError: it is no DICOM file, or an element is longer than the file.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        walker = _Walker(data)
        walker.file()
        found = walker.found
    syntax = found.get(_SYNTAX, "")
    if syntax == _DEFLATED:
        raise DeflatedError(
            f"{path}: expected elements that can be read one by one, came a DICOM file that is compressed as a whole "
            "(deflated): decompress it, as dcmconv +te OLD NEW of DCMTK does"
        )
    frames = tuple({**walker.shared, **walker.frames[number]} for number in sorted(walker.frames))
    return Elements(found.get(_SERIES, ""), syntax not in _NATIVE, _PIXELS in found, found, frames)


class _Walker:
    """A position in a file, and the few values that are kept on the way."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 132 if data[128:132] == b"DICM" else 0
        self.found: dict[Tag, str] = {}
        self.shared: dict[Tag, str] = {}
        self.frames: dict[int, dict[Tag, str]] = {}
        self.place: list[tuple[Tag, int]] = []
        self.explicit, self.order = True, "little"

    def file(self) -> None:
        """The group of the file itself, which is always written the same way, and then the rest."""
        if self.at:
            while self.at < len(self.data) and self._number(self.at, 2) == 2:
                self._element(0)
            syntax = self.found.get(_SYNTAX, "")
            if syntax == _DEFLATED:
                return
            self.explicit = syntax != _IMPLICIT
            self.order = "big" if syntax == _BIG_ENDIAN else "little"
        else:
            self.explicit = self.data[4:6].isalpha()
        while self.at < len(self.data):
            if self._number(self.at, 2) == 0 == self._number(self.at + 2, 2):
                if self.data[self.at :].strip(b"\0"):
                    raise ValueError("zeros came in the place of an element")
                return  # padding
            self._element(0)

    def _element(self, depth: int) -> None:
        """Go past one element, with all that is in it."""
        tag, kind, length = self._head()
        if depth == 0 and tag == _PIXELS:
            self.found[tag] = ""
        if length == _UNDEFINED:
            self._sequence(None, kind, depth, tag)
            return
        end = self._end(length, tag)
        if kind == b"SQ" or (kind == b"" and tag != _PIXELS and self.data[self.at : self.at + 4] == _BEGIN):
            self._sequence(end, kind, depth, tag)
        else:
            kept = self._kept(tag, depth)
            if kept is not None and length <= _LONGEST_VALUE:
                kept[tag] = self.data[self.at : end].decode("latin-1").strip("\0 ")
            self.at = end

    def _kept(self, tag: Tag, depth: int) -> dict[Tag, str] | None:
        """Where the value of an element is to be kept, if it is one of those that say where voxels lie."""
        if depth == 0:
            return self.found if tag in _TOP else None
        if depth != 2 or tag not in _OF_FRAMES or self.place[1][0] not in _GROUPS:
            return None
        whole, number = self.place[0]
        if whole == _SHARED:
            return self.shared
        return self.frames[number] if whole == _FRAMES else None

    def _end(self, length: int, tag: Tag) -> int:
        left = len(self.data) - self.at
        if length > left:
            raise ValueError(f"element {tag[0]:04x},{tag[1]:04x} claims {length} bytes, {left} follow")
        return self.at + length

    def _head(self) -> tuple[Tag, bytes, int]:
        """Tag, value representation and length of the element that begins here; goes to its value."""
        tag = self._number(self.at, 2), self._number(self.at + 2, 2)
        if tag[0] == 0xFFFE or not self.explicit:
            kind, width, start = b"", 4, 4
        else:
            kind = self.data[self.at + 4 : self.at + 6]
            if kind not in _LONG and kind not in _SHORT:
                raise ValueError(f"element {tag[0]:04x},{tag[1]:04x} is of no known kind")
            width, start = (4, 8) if kind in _LONG else (2, 6)
        length = self._number(self.at + start, width)
        self.at += start + width
        return tag, kind, length

    def _sequence(self, end: int | None, kind: bytes, depth: int, name: Tag) -> None:
        """Items up to `end`, or to where the end is marked; those of bytes are fragments of compressed voxels."""
        if depth > _DEEPEST:
            raise ValueError("sequences are nested too deeply")
        before = self.explicit, self.order
        if kind == b"UN":  # what a program did not know, it passes on as it came
            self.explicit, self.order = False, "little"
        number = 0
        while self.at != end:
            tag, _, length = self._head()
            if tag == _SEQUENCE_END and end is None:
                break
            if tag != _ITEM or (end is not None and self.at > end):
                raise ValueError(f"expected an item of a sequence, came element {tag[0]:04x},{tag[1]:04x}")
            if kind in (b"OB", b"OW"):
                self.at = self._end(length, tag)
            else:
                if depth == 0 and name == _FRAMES:
                    if number == _MOST_FRAMES:
                        raise ValueError(f"it claims more than {_MOST_FRAMES} frames")
                    self.frames[number] = {}
                self.place.append((name, number))
                self._elements(None if length == _UNDEFINED else self._end(length, tag), depth + 1)
                self.place.pop()
            number += 1
        self.explicit, self.order = before

    def _elements(self, end: int | None, depth: int) -> None:
        """Elements of an item up to `end`, or to where its end is marked."""
        while self.at != end:
            if end is None and (self._number(self.at, 2), self._number(self.at + 2, 2)) == _ITEM_END:
                self.at += 8
                return
            if end is not None and self.at > end:
                raise ValueError("an item does not end where it says")
            self._element(depth)

    def _number(self, at: int, width: int) -> int:
        if at + width > len(self.data):
            raise ValueError("it ends in the middle of an element")
        return int.from_bytes(self.data[at : at + width], self.order)  # type: ignore[arg-type]
