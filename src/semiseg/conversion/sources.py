"""The files that a new dataset is made of: images and labels in any folders, put together by their names."""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semiseg.conversion.names import Key, Named, case_ids, group, is_label, named
from semiseg.conversion.pairing import by_pattern, match_labels
from semiseg.datasets.dataset import Case, group_by_pattern
from semiseg.errors import InputError, raise_all
from semiseg.scans.formats import ending_of, format_of
from semiseg.scans.formats.base import Triple
from semiseg.scans.found import scan_paths
from semiseg.scans.readers import read_header, read_stored

_LOOKED_AT = 3  # scans that the modality is guessed from
_AIR = -500  # Hounsfield units that only a CT goes below


@dataclass(frozen=True)
class InitOptions:
    """How names are understood and what is written.

    Attributes:
        classes: names of the classes 1, 2, ..., or all as VALUE=NAME.
        channels: names of the channels; with more than one, files that end in these names are the channels of a case.
        pattern: regular expression whose first group is the case in the paths of images and labels.
        patients: regular expression whose first group is the patient in a case id.
        spacing: mm along X, Y, Z for files that record none.
        copy: copy NIfTI files instead of linking them.
    """

    classes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    pattern: str | None = None
    patients: str | None = None
    spacing: Triple | None = None
    copy: bool = False


@dataclass(frozen=True)
class Sources:
    """Files of each case in the order of the channels, its label if it has one, and names of the channels."""

    images: Mapping[str, tuple[Path, ...]]
    labels: Mapping[str, Path]
    channels: tuple[str, ...]
    notes: tuple[str, ...]


def find_sources(images: str | Path, labels: str | Path | None, options: InitOptions) -> Sources:
    """Find all files, put the channels of a case together, and give each case its label.

    Raises:
        InputError: everything that is not certain: labels that belong to no image or to several, channels that are
            missing, patterns that find nothing.
    """
    image_items, label_items = _found(images, "images"), [] if labels is None else _found(labels, "labels")
    if {item.path for item in image_items} == {item.path for item in label_items}:
        image_items = [item for item in image_items if not is_label(item)]
        label_items = [item for item in label_items if is_label(item)]
    else:
        taken = {item.path for item in label_items}
        image_items = [item for item in image_items if item.path not in taken]
    if not image_items or (labels is not None and not label_items):
        missing = "labels" if image_items else "images"
        raise InputError(
            f"{labels if image_items else images}: expected images and labels apart, came no {missing}: name labels "
            "with seg, label or mask, or give patterns such as 'SRC/*/t1.nrrd'"
        )
    if label_items and all(map(is_label, image_items)) and not any(map(is_label, label_items)):
        raise InputError(
            f"{images}: all names are those of labels, as {image_items[0].path.name}, and none in {labels} is: are the "
            f"two folders swapped? semiseg init {labels} --labels {images}"
        )
    if options.pattern is not None:
        image_items, label_items = by_pattern(image_items, options.pattern), by_pattern(label_items, options.pattern)
    grouped = group(image_items, options.channels, label_items)
    cases: dict[Key, dict[int, Path]] = {}
    problems: list[str] = []
    for key, files in grouped.cases.items():
        case = cases.setdefault(key[:1] if options.pattern else key, {})
        problems += [
            f"case {key[0]}: expected one image, came {case[number]} and {path}: keep one, or name the channels with "
            "--channels"
            for number, path in files.items()
            if number in case
        ]
        case.update(files)
    if options.pattern:
        label_items = [Named(item.path, item.parts[:1]) for item in label_items]
    matched, unmatched = match_labels(list(cases), label_items)
    problems += unmatched
    channels = _channels(cases, grouped.channels, options, problems)
    raise_all(problems)
    ids = case_ids(cases)
    ordered = dict(sorted((ids[key], tuple(path for _, path in sorted(files.items()))) for key, files in cases.items()))
    held = {ids[key]: path for key, path in matched.items()}
    notes = [f"left out, for they are none of the channels: {', '.join(map(str, grouped.skipped))}"]
    if labels is None:
        held = {case: paths[0] for case, paths in ordered.items() if _holds_label(paths[0])}
    if options.patients is not None:
        trial = [Case(case, paths, None, case) for case, paths in ordered.items()]
        group_by_pattern(trial, options.patients, problems)
        raise_all(problems)
    return Sources(ordered, held, channels, tuple(notes if grouped.skipped else ()))


def _found(source: str | Path, what: str) -> list[Named]:
    """Scans in a folder, or those that a pattern with * finds, below the folder without one."""
    folder = Path(source)
    if not folder.exists() and any(sign in str(source) for sign in "*?["):
        paths = [path for name in sorted(glob.glob(str(source), recursive=True)) for path in scan_paths(Path(name))]
        fixed = []
        for part in folder.parts:
            if any(sign in part for sign in "*?["):
                break
            fixed.append(part)
        folder = Path(*fixed)
    else:
        paths = scan_paths(folder, nested=True)
    if not paths:
        raise InputError(f"{source}: expected a folder with {what}, found no file that can be read: check the path")
    return [named(path, folder if folder.is_dir() and path != folder else path.parent) for path in paths]


def _channels(
    cases: Mapping[Key, Mapping[int, Path]], told: tuple[str, ...], options: InitOptions, problems: list[str]
) -> tuple[str, ...]:
    """Names of the channels; adds what is missing in some case, and files that hold another number of channels."""
    files = {path for case in cases.values() for path in case.values()}
    numbers = {number for case in cases.values() for number in case}
    asked = options.channels
    several: dict[Path, int] = {}
    if numbers == {0} and not told:
        for path in sorted(files):
            try:
                several[path] = read_header(path).channels
            except InputError as error:
                problems += error.problems
    count = max(several.values(), default=max(numbers) + 1)
    if told:
        count = len(told)
    problems += [
        f"{path}: expected {count} channel(s) as others have, came {found}: save all scans alike"
        for path, found in several.items()
        if found != count
    ]
    uncertain = [path for path, found in several.items() if found > 1 and not read_header(path).certain]
    if uncertain and len(asked) != count:
        problems.append(
            f"{uncertain[0]}: expected a 3D scan, came 4D with {count} entries in {len(uncertain)} file(s): if they "
            f"are channels, name all {count} with --channels; time frames have to be saved as files of their own"
        )
    if asked and len(asked) != count:
        problems.append(
            f"--channels: expected {count} name(s), one per channel, came {len(asked)} ({', '.join(asked)}): correct it"
        )
    for key, case in cases.items():
        missing = [(asked or told or tuple(map(str, range(count))))[n] for n in range(count) if n not in case]
        if missing and not several:
            problems.append(
                f"case {'/'.join(key)}: expected {count} channels, found none for {', '.join(missing)}: add them, or "
                "remove the case"
            )
    names = asked or told
    if not names and count > 1:
        names = ("red", "green", "blue") if count == 3 and _are_pictures(files) else ()
        names = names or tuple(f"channel_{number}" for number in range(count))
    return names or (_modality(sorted(files)),)


def _modality(files: Sequence[Path]) -> str:
    """CT by the tag of DICOM files, or by values of air in all of a few scans; otherwise MRI, or grey for pictures."""
    looked = files[:: -(-len(files) // _LOOKED_AT)]
    if _are_pictures(set(files)):
        return "grey"
    return "CT" if all(map(_is_ct, looked)) else "MRI"


def _is_ct(path: Path) -> bool:
    try:
        if path.is_dir() or ending_of(path) == ".dcm":
            from semiseg.scans.formats.dicom import modality

            return modality(path) == "CT"
        values = read_stored(path).array
    except InputError:  # told when the file is brought in
        return False
    return bool(values.min() < _AIR and np.array_equal(values, np.rint(values)))


def _are_pictures(files: set[Path]) -> bool:
    return all(ending_of(path) in (".png", ".tif", ".tiff") for path in files)


def _holds_label(path: Path) -> bool:
    """Whether a file holds image and label."""
    if ending_of(path) not in (".h5", ".hdf5", ".npz"):
        return False
    parts: Callable[[Path], tuple[str, ...]] = vars(format_of(path))["parts_of"]
    return "label" in parts(path)
