"""What lies inside of a packed file, and how it is packed again, so that damage gets past checksums and packing."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from semiseg.runs import checkpoint

Damage = Callable[[bytes], bytes]
Wrap = Callable[[Random, bytes, Damage], bytes]

_NRRD_END, _MHA_END = b"\n\n", b"ElementDataFile = LOCAL\n"


def plain(_: Random, data: bytes, damage: Damage) -> bytes:
    """The file as it is."""
    return damage(data)


def gzipped(_: Random, data: bytes, damage: Damage) -> bytes:
    """The content of a gzip file."""
    return gzip.compress(damage(gzip.decompress(data)), compresslevel=1, mtime=0)


def nrrd(_: Random, data: bytes, damage: Damage) -> bytes:
    """The voxels of a gzip NRRD file; the header stays."""
    head, voxels = data.split(_NRRD_END, 1)
    return head + _NRRD_END + gzip.compress(damage(gzip.decompress(voxels)), compresslevel=1, mtime=0)


def metaimage(_: Random, data: bytes, damage: Damage) -> bytes:
    """The voxels of a packed MetaImage file; the header stays."""
    head, voxels = data.split(_MHA_END, 1)
    return head + _MHA_END + zlib.compress(damage(zlib.decompress(voxels)), level=1)


def zipped(random: Random, data: bytes, damage: Damage) -> bytes:
    """A member of a zip file, or now and then its name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    hit = random.choice(list(members))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members.items():
            evil = name == hit and random.random() < 0.1
            shown = random.choice((f"../{name}", f"/tmp/{name}", "x" * 300, "")) if evil else name
            archive.writestr(zipfile.ZipInfo(shown), damage(content) if name == hit else content)
    return packed.getvalue()


def chunks(random: Random, data: bytes, damage: Damage) -> bytes:
    """A chunk of a PNG file, with its checksum made right again."""
    found, at = [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += length + 12
    hit = random.randrange(len(found))
    packed = data[:8]
    for number, (name, content) in enumerate(found):
        body = content
        if number == hit and content:
            deep = name == b"IDAT" and random.random() < 0.5
            body = zlib.compress(damage(zlib.decompress(content))) if deep else damage(content)
        packed += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return packed


def resigned(target: Path) -> None:
    """Make the checksums of a checkpoint right again, as whoever changes it on purpose would."""
    record, weights = target.with_suffix(".json"), target.with_suffix(".safetensors")
    with suppress(ValueError):  # no JSON any more
        state = json.loads(record.read_bytes())
        if isinstance(state, dict):
            state = {**state, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
            record.write_text(json.dumps({**state, "state_sha256": checkpoint.digest(state)}))
