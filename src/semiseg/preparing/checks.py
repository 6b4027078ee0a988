"""Opening every file of a dataset and telling all of its problems at once, each with its remedy."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.datasets.dataset import IMAGES, LABELS, Case, Dataset, Survey, holds_several, survey_dataset
from semiseg.datasets.description import init_command
from semiseg.errors import InputError, raise_all
from semiseg.preparing.cases import count_values, source_files, stamp
from semiseg.preparing.decoded import Decoded, Spool
from semiseg.preparing.fingerprint import MeasuredScan, measure
from semiseg.scans.foreground import Box
from semiseg.scans.found import stem_of
from semiseg.scans.geometry import crop, orient, orientation
from semiseg.scans.grids import Grid, grid_problems, nearly_one, spacing_of
from semiseg.scans.ranges import Seen, compared, look, named_ct, odd, usual
from semiseg.scans.readers import Volume, joined, largest_scan, read_image, read_label
from semiseg.system.parallel import Map, worker_count

Array = np.ndarray[Any, np.dtype[Any]]
Triple = tuple[float, float, float]

_AIR = -500  # Hounsfield units that only a CT goes below
_BYTES_PER_VOXEL = 16  # stored, float32, what is not finite, the plane that is hashed, label


@dataclass(frozen=True)
class Report:
    """What `check` found; every problem is one line with file, what was expected, what came and what to do.

    Attributes:
        errors: what stands in the way of a training.
        warnings: what may be meant so, and should be looked at.
        cases, labelled, unlabelled: numbers of cases.
        shape: smallest and largest number of voxels along each axis; None when no image could be read.
        spacing: smallest and largest voxel side along each axis, mm.
        voxels: voxels per class over all labels, background first.
    """

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    cases: int = 0
    labelled: int = 0
    unlabelled: int = 0
    shape: tuple[Triple, Triple] | None = None
    spacing: tuple[Triple, Triple] | None = None
    voxels: Mapping[str, int] = field(default_factory=dict)

    def raise_if_errors(self) -> None:
        """Raise one `InputError` with all errors; do nothing when there are none."""
        raise_all(self.errors)

    def summary(self) -> str:
        """A few lines about cases, sizes and classes."""
        lines = [f"{self.cases} cases: {self.labelled} labelled, {self.unlabelled} unlabelled"]
        if self.shape and self.spacing:
            lines += [f"shape: {_range(*self.shape)} voxels", f"spacing: {_range(*self.spacing)} mm"]
        total = sum(self.voxels.values())
        lines += [f"{name}: {count} voxels ({count / total:.3%})" for name, count in self.voxels.items() if total]
        return "\n".join(lines)


def check(root: Path, workers: int = 0) -> Report:
    """Open every image and label of the dataset in `root` and report every problem.

    `workers` is the number of cases that are open at a time (in threads); 0 takes one per core, as far as memory
    allows.

    Errors: files that are missing, damaged or of another format; channels or labels on another grid; NaN or infinite
    voxels; label values that are no whole numbers or not in dataset.json; no labelled case; a class without a voxel.
    Warnings: constant images; labels without image or without foreground, or with foreground where the image has none;
    classes seen in one case only; the same voxels under two ids; files that record no spacing.
    """
    try:
        survey = survey_dataset(root)
    except InputError as error:
        return Report(error.problems, ())
    dataset = survey.dataset
    largest = largest_scan(case.images for case in dataset.cases.values())
    count = worker_count(workers, len(dataset.cases), _BYTES_PER_VOXEL * largest)
    with ThreadPoolExecutor(count) as pool:
        return _judged(survey, pool.map(partial(_examine, dataset), dataset.cases.values()))


def check_and_measure(dataset: Dataset, run: Map, spool: Spool) -> tuple[Report, dict[str, MeasuredScan]]:
    """`check`, and the measurements of all cases without errors, by `run`; `spool` keeps what is to be prepared."""
    found = list(run(partial(_examine, dataset, spool=spool), dataset.cases.values()))
    measured = {findings.case: findings.measured for findings in found if findings.measured is not None}
    return _judged(Survey(dataset, ()), found), measured


def _judged(survey: Survey, examined: Iterable[_Findings]) -> Report:
    """The report on a dataset of what was found in its cases, which come in any order."""
    dataset = survey.dataset
    by_case = {findings.case: findings for findings in examined}
    found = {case: by_case[case] for case in dataset.cases}
    remedy = _named(dataset, found)
    errors = [*survey.problems]
    for case in found.values():
        errors += [*case.errors, *(f"{problem}: relabel these voxels, or {remedy}" for problem in case.unknown)]
    warnings = [problem for case in found.values() for problem in case.warnings]
    class_errors, class_warnings = _class_problems(dataset, found)
    warnings += [*class_warnings, *_copies(found), *map(_stray, dataset.stray_labels), *_assumed(dataset, found)]
    warnings += [*_scaled_otherwise(dataset, found), *_unoriented(found)]
    return _report((*errors, *class_errors), tuple(warnings), dataset, found)


@dataclass
class _Findings:
    """What was found in one case, and what was measured where that was asked for and the scan is sound.

    `values` are those of the label, `unknown` the beginnings of errors on those that are no class, and `unread` says
    that the label could not be read.
    """

    case: str
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    grid: Grid | None = None
    content: str | None = None
    voxels: tuple[int, ...] | None = None
    values: frozenset[int] = frozenset()
    unknown: list[str] = field(default_factory=list)
    unread: bool = False
    seen: list[Seen] = field(default_factory=list)
    oriented: bool = True
    measured: MeasuredScan | None = None


def _examine(dataset: Dataset, case: Case, *, spool: Spool | None = None) -> _Findings:
    """What there is to say of a case; with a spool it is measured as well, and kept there if it is to be prepared."""
    found = _Findings(case.id)
    stamps = {} if spool is None else stamp(dataset.root, source_files(case))
    reference, volumes = _examine_channels(case, len(dataset.channels), found)
    sound = not found.errors
    label = None if case.label is None else _examine_label(dataset, case, reference, found)
    if not sound or (spool is None and label is None):
        return found
    decoded = Decoded.of(joined(volumes), None if label is None else label.array)
    if case.label is not None and label is not None:
        found.warnings.extend(_outside(case.label, label, decoded.foreground.box))
    if spool is not None:
        found.measured = measure(decoded.scan, decoded.foreground)
        if not (found.errors or found.unknown):
            spool.keep(case.id, decoded, stamps)
    return found


def _examine_channels(case: Case, channels: int, found: _Findings) -> tuple[Path | None, list[Volume]]:
    """Look at all image files; the first readable one, which gives the case its grid, and what was read."""
    reference: Path | None = None
    volumes: list[Volume] = []
    several = len(case.images) == 1 and channels > 1 and holds_several(case.images[0])
    digest = hashlib.sha256()
    whole = True
    for path in case.images:
        try:
            volume = read_image([path], channels=channels if several else 1, spacing=case.spacing)
        except InputError as error:
            found.errors.extend(error.problems)
            whole = False
            continue
        if reference is None or found.grid is None:
            reference, found.grid = path, volume.grid
        found.errors.extend(grid_problems(path, volume.grid, reference, found.grid))
        found.warnings.extend(nearly_one(path, volume.grid, reference, found.grid))
        for channel in volume.array:
            if channel.min() == channel.max():
                found.warnings.append(
                    f"{path}: expected an image, came the constant {channel.flat[0]:g} in every voxel: "
                    "export the scan again, or remove the case"
                )
            _add_content(digest, channel)
            found.seen.append(look(channel))
        found.oriented &= volume.oriented
        volumes.append(volume)
    found.content = digest.hexdigest() if whole else None
    return reference, volumes


def _add_content(digest: Any, array: Array) -> None:
    """Hash the values, whatever type they are stored as; plane by plane, in the order in which NIfTI keeps them."""
    digest.update(repr(array.shape).encode())
    for plane in array.T:
        digest.update(np.ascontiguousarray(plane, dtype=np.float32))


def _examine_label(dataset: Dataset, case: Case, reference: Path | None, found: _Findings) -> Volume | None:
    """Look at the label file; the label, where it could be read and lies on the grid of the image."""
    path = case.label
    assert path is not None
    try:
        label = read_label(path, spacing=case.spacing)
    except InputError as error:
        found.errors.extend(error.problems)
        found.unread = True
        return None
    other_grid: list[str] = []
    if reference is not None and found.grid is not None:
        other_grid = grid_problems(path, label.grid, reference, found.grid)
        found.errors.extend(other_grid)
        found.warnings.extend(nearly_one(path, label.grid, reference, found.grid))
    counts = count_values(label.array)
    found.values = frozenset(np.flatnonzero(counts).tolist())
    found.unknown.extend(_unknown_values(dataset, path, label, counts))
    found.voxels = tuple(counts[: len(dataset.class_names)].tolist())
    if counts[0] == label.array.size:
        found.warnings.append(
            f"{path}: expected a label of {_foreground(dataset)}, came background only: remove the file if the scan "
            "was never labelled, for then it counts as unlabelled"
        )
    return None if other_grid else label


def _outside(path: Path, label: Volume, box: Box) -> Iterator[str]:
    """Labelled voxels that preparing the scan crops away."""
    labelled = orient(label.array, *orientation(label.affine)) > 0
    total = int(np.count_nonzero(labelled))
    lost = total - int(np.count_nonzero(crop(labelled, box)))
    if lost:
        kept = ", ".join(f"{start} to {stop - 1}" for start, stop in zip(*box, strict=True))
        yield (
            f"{path}: expected labels within the foreground of the image (voxels {kept} towards right, anterior, "
            f"superior), came {lost} of {total} labelled voxels ({lost / total:.1%}) outside, where the image is as "
            "dark as air: they are cropped away and never predicted; see whether image and label belong together"
        )


def _unknown_values(dataset: Dataset, path: Path, label: Volume, counts: Array) -> Iterator[str]:
    known = len(dataset.class_names)
    for value in (known + np.flatnonzero(counts[known:])).tolist():
        place = [int(index[0]) for index in np.nonzero(label.array == value)]
        yield (
            f"{path}: expected the label values 0 to {known - 1} of dataset.json, came {value} in {counts[value]} "
            f"voxel(s), the first at {place}"
        )


def _named(dataset: Dataset, found: Mapping[str, _Findings]) -> str:
    """How values without a class become classes; those of classes have no gaps, and each has voxels."""
    names = dict(enumerate(dataset.class_names))
    present = frozenset[int]().union(*(findings.values for findings in found.values()))
    unknown, unused = sorted(present - names.keys()), sorted(names.keys() - present - {0})
    if unknown == [len(names)] and not unused:
        return f'name the class in dataset.json, as "NAME": {len(names)}'
    held = sorted(present - {0})
    if len(unused) == len(unknown):  # a name for each value, in the order of the values
        told = dict(zip(held, dataset.class_names[1:], strict=True))
    else:
        told = {value: names.get(value, f"NAME{value}") for value in held}
    return f"name the classes, if these are their names, with {init_command(dataset.root, told)}"


def _class_problems(dataset: Dataset, found: Mapping[str, _Findings]) -> tuple[list[str], list[str]]:
    """Classes that cannot be learnt (errors) or not be tested besides (warnings)."""
    errors: list[str] = []
    warnings: list[str] = []
    folder = dataset.root / LABELS
    if not any(case.label for case in dataset.cases.values()):
        return [
            f"{folder}: expected labels of some cases, as CASE{dataset.file_ending}, came none: label a few scans, or "
            "name the folder of their labels when you make the dataset: semiseg init IMAGES --labels LABELS"
        ], warnings
    if any(findings.unread or findings.unknown for findings in found.values()):  # these voxels may be of any class
        return errors, warnings
    for index, name in list(enumerate(dataset.class_names))[1:]:
        holders = [case for case, findings in found.items() if findings.voxels and findings.voxels[index]]
        if not holders:
            errors.append(
                f"{folder}: expected voxels of class {index} ({name}), came none in any label: label some, or "
                "remove the class from dataset.json"
            )
        elif len(holders) == 1:
            warnings.append(
                f"{folder}: class {index} ({name}) is in one case only, {holders[0]!r}: it can be trained or tested, "
                "not both; label it in more cases"
            )
    return errors, warnings


def _copies(found: Mapping[str, _Findings]) -> Iterator[str]:
    by_content: dict[str, list[str]] = defaultdict(list)
    for case, findings in found.items():
        if findings.content is not None:
            by_content[findings.content].append(case)
    for cases in by_content.values():
        if len(cases) > 1:
            yield (
                f"cases {', '.join(map(repr, cases))} hold the same voxels: keep one of them, or name one patient for "
                "all in patients.json, lest one scan is trained on and tested on"
            )


def _stray(path: Path) -> str:
    stem = stem_of(path)
    case = re.sub(r"_\d{4}$", "", stem)
    if case != stem and (path.parent.parent / IMAGES / path.name).exists():
        return (
            f"{path}: expected the name of a case, came one with a channel's number, so the label is not used: rename "
            f"it to {case}{path.name[len(stem) :]}"
        )
    return f"{path}: expected its image in {IMAGES}, found none, so the label is not used: add the image, or rename"


def _assumed(dataset: Dataset, found: Mapping[str, _Findings]) -> Iterator[str]:
    """Scans whose files say nothing of their spacing, when dataset.json does not either."""
    cases = [case for case, findings in found.items() if findings.grid is not None and not findings.grid.recorded]
    if cases and dataset.cases[cases[0]].spacing is None:
        yield (
            f"{dataset.root / 'dataset.json'}: {len(cases)} scan(s), such as {cases[0]!r}, record no spacing, so 1 mm "
            'is taken and distances are in voxels: if you know it, add "spacing": [X, Y, Z] in mm'
        )


def _scaled_otherwise(dataset: Dataset, found: Mapping[str, _Findings]) -> Iterator[str]:
    """CT scans whose intensities are on another scale than the others'."""
    for number, name in enumerate(dataset.channels):
        seen = {case: findings.seen[number] for case, findings in found.items() if len(findings.seen) > number}
        others = usual([*seen.values()])
        if others is None or not (named_ct(name) or others.least < _AIR):
            continue
        for case, each in seen.items():
            if odd(each, others):
                paths = dataset.cases[case].images
                yield (
                    f"{paths[min(number, len(paths) - 1)]}: {compared(each, others)}: it is not on the scale of the "
                    "other scans (Hounsfield units in CT): bring it there, or remove the case"
                )


def _unoriented(found: Mapping[str, _Findings]) -> Iterator[str]:
    cases = [case for case, findings in found.items() if not findings.oriented]
    if cases:
        yield (
            f"{len(cases)} scan(s), such as {cases[0]!r}, record no orientation (NIfTI with neither sform nor qform "
            "code): left and right are a guess; export them again from their source if it matters"
        )


def _report(errors: Sequence[str], warnings: Sequence[str], dataset: Dataset, found: Mapping[str, _Findings]) -> Report:
    grids = [findings.grid for findings in found.values() if findings.grid is not None]
    counts = [findings.voxels for findings in found.values() if findings.voxels is not None]
    totals = np.sum(counts, axis=0).tolist() if counts else [0] * len(dataset.class_names)
    labelled = sum(case.label is not None for case in dataset.cases.values())
    return Report(
        tuple(errors),
        tuple(warnings),
        len(dataset.cases),
        labelled,
        len(dataset.cases) - labelled,
        _extent([grid.shape for grid in grids]),
        _extent([spacing_of(grid.affine) for grid in grids]),
        dict(zip(dataset.class_names, totals, strict=True)),
    )


def _extent(rows: Sequence[Triple]) -> tuple[Triple, Triple] | None:
    if not rows:
        return None
    columns = list(zip(*rows, strict=True))
    low, high = [min(column) for column in columns], [max(column) for column in columns]
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def _range(low: Triple, high: Triple) -> str:
    sides = (f"{a:.4g}" if a == b else f"{a:.4g} to {b:.4g}" for a, b in zip(low, high, strict=True))
    return " x ".join(sides)


def _foreground(dataset: Dataset) -> str:
    return ", ".join(dataset.class_names[1:])
