"""Text headers of NRRD and MetaImage files, and whether compressed voxels are whole."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from semiseg.errors import InputError
from semiseg.scans.formats.base import reason
from semiseg.system.file_names import inside

_LONGEST = 1 << 20
_CHUNK = 1 << 20
_LINE = re.compile(r"^\s*([A-Za-z][A-Za-z ]*?)\s*(?::=?|=)\s*(.*?)\s*$")
_PLACES = {"space directions", "spacings", "elementspacing", "elementsize", "transformmatrix"}
_SKIPS = ("line skip", "lineskip", "byte skip", "byteskip", "headersize")
_HERE = ("local", "")
_EITHER = 32 + zlib.MAX_WBITS  # zlib, as in MetaImage, or gzip, as in NRRD
_SIZE = "compresseddatasize"
_DIMENSIONS = {"1", "2", "3", "4", "5"}
"""Numbers of axes that ITK has room for; it ends the process where a MetaImage names more than about a hundred."""


@dataclass(frozen=True)
class TextHeader:
    """What the header says of its voxels.

    Attributes:
        files: data files, empty when the voxels are in the file itself.
        packed: whether they are compressed, or written as text.
        recorded: whether spacing or direction are given.
        stream: byte of the data file where a single compressed stream begins; None where there is none.
        held: bytes of that stream; None where that is not said.
    """

    files: tuple[Path, ...]
    packed: bool
    recorded: bool
    stream: int | None
    held: int | None


def text_header(path: Path) -> TextHeader:
    """The header of a .nrrd, .nhdr, .mha or .mhd file.

    Raises:
        InputError: it cannot be read, names data files that are missing or outside of its folder, or an encoding that
            SimpleITK does not know.
    """
    fields, end = _fields(path)
    named = fields.get("data file", fields.get("datafile", fields.get("elementdatafile", "")))
    encoding = fields.get("encoding", "raw").lower()
    deflated = fields.get("compresseddata", "false").lower() == "true"
    packed = encoding != "raw" or deflated or fields.get("binarydata", "true").lower() == "false"
    files = _data_files(path, named)
    if encoding in ("bzip2", "bz2"):
        raise InputError(f"{path}: expected voxels that are raw or compressed by gzip, came bzip2: save it with gzip")
    single = (deflated or encoding in ("gzip", "gz")) and all(fields.get(name, "0") == "0" for name in _SKIPS)
    held = fields.get(_SIZE)
    if held is not None and not (held.isascii() and held.isdigit()):
        raise InputError(f"{path}: CompressedDataSize: expected a number of bytes, came {held[:30]!r}: copy it again")
    return TextHeader(
        files=files,
        packed=packed,
        recorded=bool(_PLACES & fields.keys()),
        stream=(0 if files else end) if single else None,
        held=None if held is None else int(held[:20]),
    )


def data_files(path: Path) -> tuple[Path, ...]:
    """Files beside a header that hold its voxels; none when the header cannot be understood (reading it says why)."""
    try:
        return text_header(path).files
    except InputError:
        return ()


def check_stream(path: Path, text: TextHeader, size: int) -> None:
    """Inflate the voxels once, `size` bytes: ITK takes a damaged stream for whole and leaves voxels out.

    Raises:
        InputError: the stream is damaged, or longer or shorter than the header says.
    """
    if text.stream is None:
        return
    stream, unpacked, taken = zlib.decompressobj(_EITHER), 0, 0
    try:
        for chunk in _chunks(text.files[0] if text.files else path, text.stream):
            if stream.eof or unpacked > size:
                break
            taken += len(chunk)
            while not stream.eof and chunk:  # a small file may hold terabytes
                unpacked += len(stream.decompress(chunk, _CHUNK))
                chunk = stream.unconsumed_tail
    except (zlib.error, OSError) as error:
        raise InputError(
            f"{path}: expected whole compressed voxels, came damaged ones ({reason(error)}): copy it again"
        ) from None
    if not stream.eof or unpacked != size:
        raise InputError(
            f"{path}: expected {size} bytes of voxels in a compressed stream that is whole, came {unpacked} bytes: "
            "copy it again"
        )
    taken -= len(stream.unused_data)
    if text.held not in (None, taken):
        raise InputError(
            f"{path}: CompressedDataSize: expected {taken}, the bytes of the compressed voxels, came {text.held}: "
            "copy it again"
        )


def _chunks(path: Path, begin: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(begin)
        while chunk := file.read(_CHUNK):
            yield chunk


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Fields of the header by name, and the byte after its end."""
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST).decode("latin-1")
    except OSError as error:
        raise InputError(f"{path}: expected a readable file, came {reason(error)}: check it") from None
    fields: dict[str, str] = {}
    end = 0
    for line in text.splitlines(keepends=True):
        end += len(line)
        if not line.strip() and "sizes" in fields:  # NRRD: the voxels begin
            break
        match = _LINE.match(line)
        if match:
            name, value = match[1].lower(), match[2]
            if name == "ndims" and value not in _DIMENSIONS:
                raise InputError(f"{path}: NDims: expected 2 or 3 axes, came {value[:30]!r}: copy the file again")
            fields.setdefault(name, value)
            if name == "elementdatafile":  # MetaImage: the voxels begin
                break
    else:
        if len(text) == _LONGEST:
            raise InputError(f"{path}: expected a header below {_LONGEST} bytes, came a longer one: save it again")
    return fields, end


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
