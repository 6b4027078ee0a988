"""The prepared store: per case an image, perhaps a label, and a JSON file that says that the case is whole."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from semiseg.errors import InputError, shown
from semiseg.preparing.plan import Plan
from semiseg.scans.formats.arrays import BROKEN
from semiseg.scans.geometry import Geometry
from semiseg.system.documents import parse_json, read_json, read_text
from semiseg.system.file_names import is_file_name

STORE_VERSION = 2

Array = np.ndarray[Any, np.dtype[Any]]


class Source(BaseModel):
    """A file that a case was made from: size in bytes, time of last change in ns, hash of the content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    changed: int
    sha256: str


class CaseMeta(BaseModel):
    """What `CASE.json` holds.

    Attributes:
        version: of the store's format.
        plan: `Plan.store_digest` that the case was prepared with.
        geometry: undoes the preparation.
        content: sha256 of the prepared image.
        label_content: sha256 of the prepared label; None when the case has none.
        voxels: prepared voxels per class, background first; None when the case has no label.
        sources: files of the dataset by their path within it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    plan: str
    geometry: Geometry
    content: str
    label_content: str | None
    voxels: tuple[int, ...] | None
    sources: dict[str, Source]


@dataclass(frozen=True)
class CaseFiles:
    """Where a case lies in the folder of the store."""

    folder: Path
    case: str

    @property
    def image(self) -> Path:
        """float16 `[C, X, Y, Z]`."""
        return self.folder / f"{self.case}.image.npy"

    @property
    def label(self) -> Path:
        """uint8 `[X, Y, Z]`."""
        return self.folder / f"{self.case}.label.npy"

    @property
    def meta(self) -> Path:
        """Written last, removed first."""
        return self.folder / f"{self.case}.json"

    def read_meta(self) -> CaseMeta | None:
        """The case's meta data; None when the case is not whole or was written by another version."""
        try:
            meta = CaseMeta.model_validate(parse_json(read_text(self.meta)))
        except (OSError, ValueError, ValidationError):
            return None
        if meta.version != STORE_VERSION or not self.image.is_file():
            return None
        return meta if meta.label_content is None or self.label.is_file() else None


@dataclass(frozen=True)
class Store:
    """Prepared scans of a dataset, memory-mapped. Labels are reached through `label` alone.

    Attributes:
        root: folder with `plan.json` and `store/`.
        metas: meta data by case id.
    """

    root: Path
    plan: Plan
    metas: Mapping[str, CaseMeta]

    @property
    def cases(self) -> tuple[str, ...]:
        """Case ids in alphabetical order."""
        return tuple(self.metas)

    def meta(self, case: str) -> CaseMeta:
        """Meta data of `case`."""
        return self.metas[case]

    def has_label(self, case: str) -> bool:
        """Whether `label(case)` exists; the label file is not opened."""
        return self.metas[case].label_content is not None

    def image(self, case: str) -> Array:
        """Read-only memory map of the prepared image, float16 `[C, X, Y, Z]`.

        Raises:
            InputError: the file is gone or cut since the store was opened.
        """
        meta = self.metas[case]
        return _mapped(self._files(case).image, np.float16, (len(self.plan.channels), *meta.geometry.stored))

    def label(self, case: str) -> Array:
        """Read-only memory map of the prepared label, uint8 `[X, Y, Z]`.

        Raises:
            KeyError: the case has no label.
            InputError: the file is gone or cut since the store was opened.
        """
        if not self.has_label(case):
            raise KeyError(f"case {case!r} has no label")
        return _mapped(self._files(case).label, np.uint8, self.metas[case].geometry.stored)

    def _files(self, case: str) -> CaseFiles:
        return CaseFiles(self.root / "store", case)


def _mapped(path: Path, kind: type[np.generic], shape: tuple[int, ...]) -> Array:
    remedy = "delete it and run semiseg prepare, then this command again"
    try:
        # A header may claim more voxels than a number can hold.
        with np.errstate(over="raise"), path.open("rb") as file:
            array = _map_array(file)
    except (*BROKEN, FloatingPointError) as error:
        raise InputError(f"{path}: cannot be read any more ({error}): {remedy}") from None
    if array.dtype != kind or array.shape != shape:
        came = f"{array.dtype} {list(array.shape)}"
        raise InputError(f"{path}: expected {np.dtype(kind)} {list(shape)}, came {came}: {remedy}")
    return array


def _map_array(file: BinaryIO) -> Array:
    """The array in an open `.npy` file, as `numpy.load` maps it, which opens the file three times."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"version {version} of the format")
    shape, by_columns, kind = read[version](file)
    if kind.hasobject:
        raise ValueError("objects in place of numbers")
    order: Literal["F", "C"] = "F" if by_columns else "C"
    return np.memmap(file, dtype=kind, mode="r", offset=file.tell(), shape=shape, order=order)


def open_store(root: Path, cases: Collection[str] | None = None) -> Store:
    """The store in `root` (the folder that `prepare` wrote), or that part of it which holds `cases`.

    Raises:
        InputError: nothing was prepared there, or not completely, or the plan was edited since.
    """
    remedy = "run semiseg prepare (it continues where it stopped)"
    if not (root / "plan.json").is_file() or not (root / "fingerprint.json").is_file():
        raise InputError(
            f"{root}: expected a prepared store (plan.json, fingerprint.json, store/), found none: {remedy}"
        )
    plan = Plan.load(root / "plan.json")
    expected = [case for case in _expected(root / "fingerprint.json", remedy) if cases is None or case in cases]
    found = {case: CaseFiles(root / "store", case).read_meta() for case in expected}
    metas = {case: meta for case, meta in found.items() if meta is not None}
    missing = [case for case in expected if case not in metas]
    outdated = [case for case, meta in metas.items() if meta.plan != plan.store_digest]
    problems = []
    if missing:
        problems.append(
            f"{root}: {len(missing)} of {len(expected)} cases are not prepared ({_some(missing)}): {remedy}"
        )
    if outdated:
        problems.append(
            f"{root}: plan.json was edited after {len(outdated)} cases ({_some(outdated)}) were prepared: {remedy}"
        )
    if problems:
        raise InputError(*problems)
    return Store(root, plan, metas)


def _expected(path: Path, remedy: str) -> list[str]:
    """Ids of all cases that the store should have."""
    cases = read_json(path, "the measured scans by case id").get("cases")
    if not isinstance(cases, dict) or not all(map(is_file_name, cases)):
        raise InputError(f"{path}: cases: expected scans by case id, came {shown(cases)}: delete it and {remedy}")
    return sorted(cases)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Around what writes into a store.

    Raises:
        InputError: the writing failed; says how to write elsewhere.
    """
    elsewhere = "free some space, or name a folder that can be written with --prepared DIR"
    try:
        yield
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}): {elsewhere}") from error
    except InputError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        raise InputError(
            f"{folder}: cannot be written ({error.__cause__.strerror or error.__cause__}): {elsewhere}"
        ) from error


def _some(cases: list[str]) -> str:
    return ", ".join(cases[:3]) + (", ..." if len(cases) > 3 else "")
