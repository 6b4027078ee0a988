"""Cases as they came from their files, kept on the disk between measuring and preparing, so that each is read once."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.scans.foreground import Foreground, find_foreground
from semiseg.scans.geometry import orient, orientation
from semiseg.scans.readers import Volume

Array = np.ndarray[Any, np.dtype[Any]]
Stamps = Mapping[str, tuple[int, int]]
"""Size in bytes and time of last change in ns of the files that a case was read from."""

_SHARE = 4


@dataclass(frozen=True)
class Decoded:
    """A case as it came from its files.

    Attributes:
        scan: image `[C, X, Y, Z]`.
        foreground: of the scan along canonical axes.
        label: class indices `[X, Y, Z]`, uint8; None for an unlabelled case.
    """

    scan: Volume
    foreground: Foreground
    label: Array | None

    @classmethod
    def of(cls, scan: Volume, label: Array | None) -> Decoded:
        """With the foreground of the scan, which is looked for here."""
        return cls(scan, find_foreground(orient(scan.array, *orientation(scan.affine))), label)


@dataclass(frozen=True)
class Spool:
    """Decoded cases of one preparation; what is not there is decoded again.

    Files of another preparation are never taken: their names hold another token. Nothing waits for the disk, and an
    error of it leaves the case out.

    Attributes:
        folder: that of the store.
        cases: those that are to be kept.
        token: part of the names of the files.
        floor: bytes that stay free on the disk.
    """

    folder: Path
    cases: frozenset[str]
    token: str
    floor: int

    @classmethod
    def within(cls, folder: Path, cases: Iterable[str]) -> Spool:
        """One for `cases` that takes at most a quarter of what is free on the disk.

        Raises:
            OSError: `folder` cannot be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        return cls(folder, frozenset(cases), secrets.token_hex(8), free - free // _SHARE)

    def keep(self, case: str, decoded: Decoded, stamps: Stamps) -> None:
        """Keep `case`, as its files with these `stamps` have it, where there is room."""
        if case not in self.cases:
            return
        arrays = [decoded.scan.array, *([] if decoded.label is None else [decoded.label])]
        path = self._path(case)
        try:
            if shutil.disk_usage(self.folder).free - sum(array.nbytes for array in arrays) < self.floor:
                return
            with path.open("wb") as file:
                file.write(json.dumps(_facts(decoded, stamps)).encode() + b"\n")
                for array in arrays:
                    np.save(file, array)
        except OSError:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def take(self, case: str, stamps: Stamps) -> Decoded | None:
        """What was kept of `case`, which is then gone; None where nothing was, or where its files have changed."""
        path = self._path(case)
        try:
            with path.open("rb") as file:
                facts = json.loads(file.readline())
                if facts["stamps"] != _plain(stamps):
                    return None
                scan = Volume(np.load(file), np.array(facts["affine"]), facts["recorded"])
                label = np.load(file) if facts["labelled"] else None
        except OSError:
            return None
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        (starts, stops), thresholds = facts["box"], facts["thresholds"]
        return Decoded(scan, Foreground(tuple(thresholds), (tuple(starts), tuple(stops))), label)

    def clear(self) -> None:
        """Remove what was not taken."""
        with suppress(OSError):
            for path in self.folder.glob(f".*.{self.token}.part"):
                path.unlink(missing_ok=True)

    def _path(self, case: str) -> Path:
        return self.folder / f".{case}.{self.token}.part"


def _facts(decoded: Decoded, stamps: Stamps) -> dict[str, Any]:
    return {
        "stamps": _plain(stamps),
        "affine": decoded.scan.affine.tolist(),
        "recorded": decoded.scan.recorded,
        "thresholds": decoded.foreground.thresholds,
        "box": decoded.foreground.box,
        "labelled": decoded.label is not None,
    }


def _plain(stamps: Stamps) -> dict[str, list[int]]:
    return {name: list(pair) for name, pair in stamps.items()}
