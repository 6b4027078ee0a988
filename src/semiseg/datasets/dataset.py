"""A dataset folder in nnU-Net's raw layout: which cases it has, and which of them are labelled."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from semiseg.datasets.description import Description, read_description
from semiseg.errors import InputError, did_you_mean, raise_all, shown
from semiseg.scans.formats import ending_of, relatives
from semiseg.scans.found import stem_of
from semiseg.scans.readers import read_header
from semiseg.system.documents import read_json
from semiseg.system.file_names import is_file_name

IMAGES, UNLABELLED, LABELS = "imagesTr", "imagesUn", "labelsTr"


@dataclass(frozen=True)
class Case:
    """One scan.

    Attributes:
        images: one file per channel, in order, or one file with all channels.
        label: if it has one.
        patient: whose scan it is.
        spacing: mm along X, Y, Z, for files that record none.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None
    patient: str
    spacing: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Dataset:
    """Cases by id in alphabetical order; no image or label has been opened.

    Attributes:
        root: the dataset's folder.
        name: from dataset.json, or the folder's name.
        channels: names, in the order of the image files.
        class_names: index is the label value; `[0]` is the background.
        file_ending: such as `.nii.gz`.
        normalised, cropped: what was done when the scans were imported, see `Description`.
        stray_labels: label files that belong to no case.
    """

    root: Path
    name: str
    channels: tuple[str, ...]
    class_names: tuple[str, ...]
    file_ending: str
    cases: dict[str, Case]
    normalised: bool = False
    cropped: bool = False
    stray_labels: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Survey:
    """A dataset as far as its file names tell, with all problems that they show; incomplete cases are kept."""

    dataset: Dataset
    problems: tuple[str, ...]


def open_dataset(root: Path, patient_pattern: str | None = None) -> Dataset:
    """The dataset in `root`; files are found, not opened (`semiseg check` opens them).

    `dataset.json` holds `channel_names`, `labels` and `file_ending`. Images lie in `imagesTr/CASE_0000.nii.gz`, one
    file per channel (or one file with all channels), labels in `labelsTr/CASE.nii.gz`; any ending that
    `semiseg.scans.formats` reads will do. Voxels of files that record no spacing have that of the entry `spacing`. An
    image without a label file is an unlabelled case; images in `imagesUn/` are unlabelled
    whatever lies in `labelsTr/`. Whose scans belong together is told by
    `patients.json` (`{case: patient}`); a case that is not told of is a patient of its own.

    Args:
        root: the dataset's folder.
        patient_pattern: regular expression that finds the patient in a case id (its first group); goes before
            `patients.json`.

    Raises:
        InputError: every structural problem: of dataset.json, of file names, of channels that are missing.
    """
    survey = survey_dataset(root, patient_pattern)
    raise_all(survey.problems)
    return survey.dataset


def survey_dataset(root: Path, patient_pattern: str | None = None) -> Survey:
    """What the file names in `root` tell; see `open_dataset`.

    Raises:
        InputError: `root` is no folder, or dataset.json is not usable.
    """
    if not root.is_dir():
        raise InputError(
            f"{root}: expected a dataset folder (dataset.json, imagesTr, labelsTr), found none: check the path"
        )
    description = read_description(root)
    problems: list[str] = []
    stray: list[Path] = []
    if description.listing is not None:
        cases = _listed_cases(root, description, problems)
    else:
        cases, stray = _found_cases(root, description, problems)
    if not cases:
        problems.append(
            f"{root / IMAGES}: expected images named CASE_0000{description.file_ending}, found none: add them, or "
            "correct file_ending in dataset.json"
        )
    problems.extend(
        f"{root}: expected case ids of printable characters without slashes, for files are named after them, came "
        f"{case.id!r}: rename the case"
        for case in cases
        if not is_file_name(case.id)
    )
    cases = [replace(case, spacing=description.spacing) for case in cases]
    grouped = _with_patients(root, cases, patient_pattern, problems)
    dataset = Dataset(
        root,
        description.name,
        description.channels,
        description.class_names,
        description.file_ending,
        {case.id: case for case in sorted(grouped, key=lambda case: case.id)},
        description.normalised,
        description.cropped,
        tuple(stray),
    )
    return Survey(dataset, tuple(problems))


def _found_cases(root: Path, description: Description, problems: list[str]) -> tuple[list[Case], list[Path]]:
    """Cases by file name, and label files that belong to none."""
    ending = description.file_ending
    training = _images(root / IMAGES, description, problems)
    unlabelled = _images(root / UNLABELLED, description, problems)
    labels: dict[str, Path] = {}
    for file in _files(root / LABELS, ending, problems):
        other = labels.setdefault(file.name[: -len(ending)], file)
        if other != file:
            problems.append(_twice(file, other))
    problems.extend(
        f"{root / UNLABELLED}: case {case!r} is in {IMAGES} as well: rename or remove one of them"
        for case in sorted(training.keys() & unlabelled.keys())
    )
    problems.extend(_other_formats(root, ending, training.keys() | unlabelled.keys(), labels))
    cases = [Case(case, images, labels.get(case), case) for case, images in training.items()]
    cases += [Case(case, images, None, case) for case, images in unlabelled.items() if case not in training]
    return cases, [file for case, file in sorted(labels.items()) if case not in training]


def _images(folder: Path, description: Description, problems: list[str]) -> dict[str, tuple[Path, ...]]:
    """Image files by case, in the order of the channels."""
    pattern = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})" + f"(?i:{re.escape(description.file_ending)})")
    found: dict[str, dict[int, Path]] = {}
    for file in _files(folder, description.file_ending, problems):
        match = pattern.fullmatch(file.name)
        if match:
            other = found.setdefault(match["case"], {}).setdefault(int(match["channel"]), file)
            if other != file:
                problems.append(_twice(file, other))
        else:
            problems.append(
                f"{file}: expected a name like CASE_0000{description.file_ending}, with the channel's number of four "
                "digits: rename it"
            )
    for case, channels in found.items():
        problems.extend(_channel_problems(folder, case, channels, description))
    return {case: tuple(channels[number] for number in sorted(channels)) for case, channels in found.items()}


def _channel_problems(folder: Path, case: str, channels: dict[int, Path], description: Description) -> Iterable[str]:
    if list(channels) == [0] and len(description.channels) > 1 and holds_several(channels[0]):
        return
    for number, name in enumerate(description.channels):
        if number not in channels:
            file = folder / f"{case}_{number:04d}{description.file_ending}"
            yield f"{file}: expected channel {number} ({name}) of case {case!r}, found none: add it or remove the case"
    for number, file in channels.items():
        if number >= len(description.channels):
            yield (
                f"{file}: expected {len(description.channels)} channel(s) as in dataset.json, came channel {number}: "
                "remove the file, or name the channel in dataset.json"
            )


def holds_several(path: Path) -> bool:
    """Whether one file holds several channels; a file that cannot be read is found by `check`."""
    try:
        return read_header(path).channels > 1
    except InputError:
        return False


def _files(folder: Path, ending: str, problems: list[str]) -> list[Path]:
    """Files with the dataset's ending in any case; others that can be read would be missed silently: problems."""
    if not folder.is_dir():
        return []
    files = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".")]
    taken = [file for file in files if ending_of(file) == ending]
    problems.extend(
        _other(file, ending) for file in files if ending_of(file) in relatives(ending) and file not in taken
    )
    return taken


def _other_formats(root: Path, ending: str, cases: Collection[str], labels: Collection[str]) -> Iterable[str]:
    """Images and labels in other formats than the dataset's; those beside a file of the dataset are pictures of it."""
    for folder in (IMAGES, UNLABELLED, LABELS):
        for file in sorted((root / folder).iterdir()) if (root / folder).is_dir() else ():
            if file.name.startswith(".") or ending_of(file) in (None, *relatives(ending)):
                continue
            stem = stem_of(file)
            channel = re.fullmatch(r"(?P<case>.+)_\d{4}", stem)
            lost = channel is not None and channel["case"] not in cases
            if (stem in cases and stem not in labels) if folder == LABELS else lost:
                yield _other(file, ending)


def _other(file: Path, ending: str) -> str:
    return f"{file}: expected the ending {ending} as in dataset.json, came another: convert it, or correct file_ending"


def _twice(file: Path, other: Path) -> str:
    return f"{file}: expected one file of this name, came {other.name} as well: remove or rename one of them"


def _listed_cases(root: Path, description: Description, problems: list[str]) -> list[Case]:
    """Cases that dataset.json lists itself."""
    cases = []
    for case, (images, label) in (description.listing or {}).items():
        several = len(images) == 1 and (root / images[0]).is_file() and holds_several(root / images[0])
        if len(images) != len(description.channels) and not several:
            problems.append(
                f"{root / 'dataset.json'}: case {case!r}: expected {len(description.channels)} image file(s), one per "
                f"channel, came {len(images)}: correct the list"
            )
        for name in (*images, *([label] if label else [])):
            if not (root / name).is_file():
                problems.append(
                    f"{root / name}: expected a file of case {case!r}, found none: add it or remove the case"
                )
        files = tuple(root / name for name in images if (root / name).is_file())
        found = root / label if label and (root / label).is_file() else None
        if files:
            cases.append(Case(case, files, found, case))
    return cases


def _with_patients(root: Path, cases: list[Case], pattern: str | None, problems: list[str]) -> list[Case]:
    if pattern is not None:
        return group_by_pattern(cases, pattern, problems)
    path = root / "patients.json"
    if not path.exists():
        return cases
    try:
        patients = read_json(path, "patients by case id, as {case: patient}")
    except InputError as error:
        problems.extend(error.problems)
        return cases
    known = {case.id for case in cases}
    problems.extend(
        f"{path}: unknown case {shown(case)}: {did_you_mean(case, known)}" for case in patients if case not in known
    )
    return [replace(case, patient=str(patients.get(case.id, case.id))) for case in cases]


def group_by_pattern(cases: list[Case], pattern: str, problems: list[str]) -> list[Case]:
    """Cases with the patient that the first group of `pattern` finds in their ids; adds what is wrong to `problems`."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        problems.append(f"patient pattern {pattern!r}: expected a regular expression, came none ({error}): correct it")
        return cases
    if compiled.groups < 1:
        problems.append(
            f"patient pattern {pattern!r}: expected a group for the patient, as in '(.*)_frame': add brackets"
        )
        return cases
    found = []
    for case in cases:
        match = compiled.search(case.id)
        if match and match[1]:
            found.append(replace(case, patient=match[1]))
        else:
            problems.append(f"patient pattern {pattern!r}: finds no patient in case {case.id!r}: widen the pattern")
    return found
