"""Preparing one case: read, preprocess, write; skipped when the store already holds just that."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.datasets.dataset import Case
from semiseg.errors import InputError
from semiseg.preparing.decoded import Decoded, Spool, Stamps
from semiseg.preparing.plan import Plan
from semiseg.preparing.preprocess import preprocess
from semiseg.preparing.store import STORE_VERSION, CaseFiles, CaseMeta, Source, writing_to
from semiseg.scans.formats import all_files
from semiseg.scans.geometry import label_to_stored
from semiseg.scans.readers import read_image, read_label
from semiseg.system.files import replacing, sha256, write_json

Array = np.ndarray[Any, np.dtype[Any]]

_TOGETHER = 1 << 16  # NumPy widens what it counts eightfold; this much stays in the cache


@dataclass(frozen=True)
class CaseTask:
    """One case to prepare.

    Attributes:
        root: folder of the dataset.
        spool: where it may be decoded already, in the folder of the store.
        meta: what the store holds of it, if anything.
    """

    root: Path
    spool: Spool
    case: Case
    plan: Plan
    meta: CaseMeta | None = None

    @property
    def folder(self) -> Path:
        """That of the store."""
        return self.spool.folder


def prepare_case(task: CaseTask) -> tuple[str, CaseMeta]:
    """Bring one case of the store up to date; returns its id and meta data.

    Raises:
        InputError: a scan cannot be read, or the store cannot be written.
    """
    files = CaseFiles(task.folder, task.case.id)
    meta, sources = task.meta, _sources(task)
    if meta is None or meta.plan != task.plan.store_digest or _contents(meta.sources) != _contents(sources):
        return task.case.id, _write(files, task, sources)
    if meta.sources != sources:  # touched or copied, but the same content
        meta = meta.model_copy(update={"sources": sources})
        with writing_to(task.folder):
            write_json(files.meta, meta.model_dump(mode="json"))
    return task.case.id, meta


def up_to_date(task: CaseTask, stamps: Stamps) -> bool:
    """Whether the store holds the case of files with these `stamps`, as the plan wants it."""
    return task.meta is not None and task.meta.plan == task.plan.store_digest and made_of(task.meta, stamps)


def made_of(meta: CaseMeta | None, stamps: Stamps) -> bool:
    """Whether a case of the store was made of the files with these `stamps`, whatever the plan was."""
    return meta is not None and _stamps(meta.sources) == stamps


def source_files(case: Case, *, label: bool = True) -> tuple[Path, ...]:
    """All files of a case, also data files that its headers name; without those of its `label` where that is False."""
    named = (*case.images, *((case.label,) if case.label and label else ()))
    return tuple(file for path in named for file in all_files(path))


def within(root: Path, files: Iterable[Path]) -> dict[str, Path]:
    """`files` by their path within `root`."""
    return {Path(os.path.relpath(file, root)).as_posix(): file for file in files}


def stamp(root: Path, files: Iterable[Path]) -> dict[str, tuple[int, int]]:
    """Size in bytes and time of last change in ns by path within `root`.

    Raises:
        InputError: a file is gone since the dataset was opened.
    """
    found = {}
    for name, file in within(root, files).items():
        try:
            status = file.stat()
        except FileNotFoundError:
            raise InputError(
                f"{file}: was there when the dataset was opened, and is gone: put it back, then run the same command "
                "again; what is done is kept"
            ) from None
        found[name] = (status.st_size, status.st_mtime_ns)
    return found


def _sources(task: CaseTask) -> dict[str, Source]:
    stamps = stamp(task.root, source_files(task.case))
    return {
        name: Source(size=size, changed=changed, sha256=sha256(task.root / name))
        for name, (size, changed) in stamps.items()
    }


def _stamps(sources: dict[str, Source]) -> dict[str, tuple[int, int]]:
    return {name: (source.size, source.changed) for name, source in sources.items()}


def _contents(sources: dict[str, Source]) -> dict[str, str]:
    return {name: source.sha256 for name, source in sources.items()}


def _write(files: CaseFiles, task: CaseTask, sources: dict[str, Source]) -> CaseMeta:
    case = task.case
    found = task.spool.take(case.id, _stamps(sources)) or _decoded(case, len(task.plan.channels))
    image, geometry = preprocess(found.scan, task.plan, np.float16, found.label, found.foreground)
    label = None if found.label is None else label_to_stored(found.label, geometry)
    with writing_to(task.folder):
        files.meta.unlink(missing_ok=True)  # first: with it gone, no mixture of old and new files looks whole
        meta = CaseMeta(
            version=STORE_VERSION,
            plan=task.plan.store_digest,
            geometry=geometry,
            content=_save(files.image, image),
            label_content=None if label is None else _save(files.label, label),
            voxels=None if label is None else tuple(count_values(label)[: task.plan.classes].tolist()),
            sources=sources,
        )
        if label is None:
            files.label.unlink(missing_ok=True)
        write_json(files.meta, meta.model_dump(mode="json"))
    return meta


def _decoded(case: Case, channels: int) -> Decoded:
    label = read_label(case.label).array if case.label else None
    return Decoded.of(read_image(case.images, channels=channels, spacing=case.spacing), label)


def _save(path: Path, array: Array) -> str:
    array = np.ascontiguousarray(array)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)
    return hashlib.sha256(array.data).hexdigest()


def count_values(label: Array) -> Array:
    """Voxels of `label` (uint8) with each of the 256 values."""
    counts = np.zeros(256, dtype=np.int64)
    values = label.ravel(order="K")
    for start in range(0, values.size, _TOGETHER):
        counts += np.bincount(values[start : start + _TOGETHER], minlength=256)
    return counts
