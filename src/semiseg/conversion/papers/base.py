"""What an importer is: how the download of a public dataset looks, and how one of its scans becomes a case.

An importer is one file of this package that ends in `register(Importer(...))`. It says which layouts of files it
knows, finds the scans by their names (`Layout.find`), turns one scan into arrays (`Layout.convert`, a pure function
of the files and the options), and gives the published lists of cases (`Importer.splits`). Writing, resuming,
processes and messages are the same for all and live in `run` and `writing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from semiseg.datasets.splits import Split
from semiseg.errors import find
from semiseg.system.discovery import modules_of
from semiseg.validation import parse

Array = np.ndarray[Any, np.dtype[Any]]


class Options(BaseModel):
    """Choices of an import; the defaults are the published preprocessing, or the recommended reading of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Item:
    """One scan of the source, found by its name.

    Attributes:
        case: id of the case that it becomes.
        images: what `convert` reads: one file or folder per channel, or whatever the layout keeps a scan in.
        label: file of the reference label; None where the source has none, or keeps it in `images`.
        patient: whose scan it is; None where every case is a patient of its own.
    """

    case: str
    images: tuple[Path, ...]
    label: Path | None = None
    patient: str | None = None

    @property
    def label_file(self) -> Path:
        """File of the reference label, in layouts where every scan has one."""
        if self.label is None:
            raise ValueError(f"case {self.case!r} has no label file")
        return self.label

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that the case is made of."""
        return (*self.images, *([self.label] if self.label else []))


@dataclass(frozen=True)
class Found:
    """What the names in a source tell; without any item, the source is not of this layout.

    Attributes:
        items: scans that are complete.
        problems: one line for each file that is missing or not understood; they end the import.
        notes: what the user should know, and what is left out.
    """

    items: tuple[Item, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scan:
    """A converted scan: image `[C, X, Y, Z]`, label `[X, Y, Z]` or None, affine `[4, 4]` (voxels -> RAS+ mm).

    Attributes:
        image: int16 where that holds the values, else float32.
        label: whole numbers from 0 to 255.
    """

    image: Array
    label: Array | None
    affine: Array


@dataclass(frozen=True)
class Layout:
    """One way in which the files of a dataset are passed around.

    Attributes:
        name: such as `download`.
        expected: the names that it has, for people, as `CASE/lgemri.nrrd and CASE/laendo.nrrd`.
        find: scans in a source folder, from names alone; looks into subfolders, for a download may lie deeper.
        convert: a scan from its files; a module-level function, for it runs in other processes. It raises
            `InputError` for files that cannot be used.
    """

    name: str
    expected: str
    find: Callable[[Path, Any], Found]
    convert: Callable[[Item, Any], Scan]


@dataclass(frozen=True)
class Description:
    """What dataset.json says of an imported dataset.

    Attributes:
        name: of the dataset.
        channels: names, in the order of `Scan.image`.
        class_names: by label value, background first.
        normalised: whether intensities were brought to a common scale already.
        oracle: whether the reference labels decided which voxels are there (a crop around them).
    """

    name: str
    channels: tuple[str, ...]
    class_names: tuple[str, ...]
    normalised: bool = False
    oracle: bool = False


@dataclass(frozen=True)
class Importer:
    """A dataset that can be imported.

    Attributes:
        name: what the user types.
        title: the dataset's own name.
        where: where to get it, and under which terms.
        layouts: known ones; the first that fits is taken.
        describe: channels and classes, from the source folder, the layout and the options.
        splits: roles of the cases by name of the split file, from the ids that were found and the options; ids that
            were not found may be named, and are left out when the files are written.
        options: choices and their defaults.
        memory: bytes that converting one scan takes at most, roughly.
    """

    name: str
    title: str
    where: str
    layouts: tuple[Layout, ...]
    describe: Callable[[Path, Layout, Any], Description]
    splits: Callable[[Sequence[str], Any], Mapping[str, Split]]
    options: type[Options] = Options
    memory: int = 2 << 30

    def configure(self, values: Mapping[str, Any]) -> Options:
        """The options with `values` set.

        Raises:
            InputError: an option is unknown or out of bounds; all are named.
        """
        return parse(self.options, values, f"options of {self.name}")


@dataclass(frozen=True)
class Imported:
    """A finished import.

    Attributes:
        root: the dataset folder.
        layout: which layout the source had.
        cases: ids.
        splits: split files by name, with their roles.
        notes: what was left out or decided, one line each.
    """

    root: Path
    layout: str
    cases: tuple[str, ...]
    splits: Mapping[str, Split] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """A few lines for people."""
        lines = [f"{len(self.cases)} cases in {self.root} (found: {self.layout})"]
        for name, split in self.splits.items():
            numbers = ", ".join(f"{len(cases)} {role}" for role, cases in split.roles.items() if cases)
            lines.append(f"splits/{name}.json: {numbers}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


_REGISTRY: dict[str, Importer] = {}


def register(importer: Importer) -> Importer:
    """Make an importer known under its name."""
    if importer.name in _REGISTRY:
        raise ValueError(f"two importers are called {importer.name!r}")
    _REGISTRY[importer.name] = importer
    return importer


def importers() -> dict[str, Importer]:
    """All importers by name, in alphabetical order."""
    modules_of("semiseg.conversion.papers")  # registers every importer
    return dict(sorted(_REGISTRY.items()))


def importer(name: str) -> Importer:
    """The importer called `name`.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    return find("dataset", name, importers())
