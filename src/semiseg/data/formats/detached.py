"""Text headers of NRRD and MetaImage files: where the voxels are, and whether they are compressed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from semiseg.data.description import inside
from semiseg.data.formats.base import reason
from semiseg.errors import InputError

_LONGEST = 1 << 20
_LINE = re.compile(r"^\s*([A-Za-z][A-Za-z ]*?)\s*(?::=?|=)\s*(.*?)\s*$")
_PLACES = {"space directions", "spacings", "elementspacing", "elementsize", "transformmatrix"}
_HERE = ("local", "")


@dataclass(frozen=True)
class TextHeader:
    """What the header says of its voxels.

    Attributes:
        files: data files, empty when the voxels are in the file itself.
        packed: whether they are compressed, or written as text.
        recorded: whether spacing or direction are given.
    """

    files: tuple[Path, ...]
    packed: bool
    recorded: bool


def text_header(path: Path) -> TextHeader:
    """The header of a .nrrd, .nhdr, .mha or .mhd file.

    Raises:
        InputError: it cannot be read, or names data files that are missing or outside of its folder.
    """
    fields = _fields(path)
    named = fields.get("data file", fields.get("datafile", fields.get("elementdatafile", "")))
    packed = (
        fields.get("encoding", "raw").lower() != "raw"
        or fields.get("compresseddata", "false").lower() == "true"
        or fields.get("binarydata", "true").lower() == "false"
    )
    return TextHeader(_data_files(path, named), packed, bool(_PLACES & fields.keys()))


def data_files(path: Path) -> tuple[Path, ...]:
    """Files beside a header that hold its voxels; none when the header cannot be understood (reading it says why)."""
    try:
        return text_header(path).files
    except InputError:
        return ()


def _fields(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST).decode("latin-1")
    except OSError as error:
        raise InputError(f"{path}: expected a readable file, came {reason(error)}: check it") from None
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() and "sizes" in fields:  # NRRD: the voxels begin
            break
        match = _LINE.match(line)
        if match:
            fields.setdefault(match[1].lower(), match[2])
            if match[1].lower() == "elementdatafile":  # MetaImage: the voxels begin
                break
    return fields


def _data_files(path: Path, named: str) -> tuple[Path, ...]:
    if named.lower() in _HERE:
        return ()
    if named.split()[0].upper() == "LIST" or "%" in named:
        raise InputError(
            f"{path}: expected one data file, came several ({named}): save the scan as one .nrrd, .mha or .nii.gz file"
        )
    if not inside(named):
        raise InputError(f"{path}: expected a data file beside it, came {named!r}: move the file and correct the name")
    found = path.parent / named
    if not found.is_file():
        raise InputError(f"{found}: expected the voxels of {path.name}, found no such file: copy it as well")
    return (found,)
