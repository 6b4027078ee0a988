"""Writing files so that a reader sees either the old or the whole new content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from semiseg.errors import InputError, raise_all


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; what is written there takes the place of `path` when the block ends well.

    Content reaches the disk before the rename, so neither a kill nor a power cut leaves a partial file.

    Raises:
        InputError: the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)  # whatever has the name is not what is written through
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
            _flush(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes `path`.

    Raises:
        InputError: the system refused it: no space, no permission, no such folder.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}): free some space or choose another folder"
        ) from error


def sweep(folder: Path, *, below: bool = False) -> None:
    """Remove what `replacing` left in `folder` (and `below` it) when its process was killed.

    What a living process of this machine writes is kept.
    """
    for path in (folder.rglob if below else folder.glob)(".*.part"):
        number = path.name.split(".")[-2]
        if not (number.isdigit() and _lives(int(number))):
            with suppress(OSError):
                path.unlink()


def _lives(process: int) -> bool:
    """Whether there is such a process on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        pass
    return not _ended(process)


def _ended(process: int) -> bool:
    """Whether it is only waited for (Linux): in a container, nobody may ever take note of its end."""
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    return state[:1] in (["Z"], ["X"])


def refuse_links(folder: Path, *names: str, remedy: str) -> None:
    """Refuse to write below `folder` where one of `names` in it leads elsewhere: the folder may be somebody else's.

    Raises:
        InputError: names the links and where they lead.
    """
    raise_all(
        f"{folder / name}: expected a place to write to, came a link to {(folder / name).resolve()}: {remedy}"
        for name in names
        if (folder / name).is_symlink()
    )


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def sha256(path: Path) -> str:
    """Hex digest of a file's content.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}): put it back, then run the same command again, which "
            "keeps what is done"
        ) from None
