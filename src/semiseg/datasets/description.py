"""dataset.json: channels, classes and file ending, checked before anything is made of them."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semiseg.errors import InputError, shown
from semiseg.scans.formats import ENDINGS, ending_of
from semiseg.scans.found import scan_paths
from semiseg.system.documents import parse_json, read_json, read_text
from semiseg.system.file_names import inside, is_file_name

_CROPPED = "cropped_around_labels"
_MOST_CLASSES = 256
_LONGEST_SIDE = 1e6  # mm


@dataclass(frozen=True)
class Description:
    """What dataset.json says.

    Attributes:
        class_names: index is the label value; `[0]` is the background.
        spacing: mm along X, Y, Z for files that record none; an entry of our own.
        listing: image files and label file by case id, relative to the dataset, when the file lists its cases.
        normalised: whether intensities were brought to a common scale when the scans were imported.
        cropped: whether the scans were cut around their labels then.
    """

    name: str
    channels: tuple[str, ...]
    class_names: tuple[str, ...]
    file_ending: str
    spacing: tuple[float, float, float] | None
    listing: Mapping[str, tuple[tuple[str, ...], str | None]] | None
    normalised: bool = False
    cropped: bool = False


def read_description(root: Path) -> Description:
    """The content of `root/dataset.json`.

    Raises:
        InputError: it is missing or no JSON, or of another layout, lacks an entry, its labels are not consecutive
            from 0, or it names files outside of `root`.
    """
    path = root / "dataset.json"
    if not path.exists() and scan_paths(root, nested=True):
        raise InputError(
            f"{root}: expected a dataset folder (with dataset.json), came a folder of scans: make a dataset of it with "
            f"semiseg init {shlex.quote(str(root))} --labels LABELS -o DATA"
        )
    content = read_json(path, "dataset.json with channel_names, labels and file_ending")
    if "channel_names" not in content and isinstance(content.get("modality"), dict):
        raise InputError(
            f"{path}: expected channel_names, labels by name and file_ending, as nnU-Net v2 writes them, came "
            f"dataset.json of nnU-Net v1 or the Decathlon: make a dataset of it with {_converted(root, content)}"
        )
    found: dict[str, Any] = {}
    problems: list[str] = []
    for key, parse in (
        ("name", lambda value: _name(value, root)),
        ("channel_names", _channels),
        ("labels", lambda value: _classes(value, root)),
        ("file_ending", lambda value: _ending(value, root)),
        ("spacing", _spacing),
        ("dataset", _listing),
    ):
        try:
            found[key] = parse(content.get(key))
        except ValueError as error:
            problems.append(f"{path}: {key}: {error}")
    if problems:
        raise InputError(*problems)
    return Description(
        found["name"],
        found["channel_names"],
        found["labels"],
        found["file_ending"],
        found["spacing"],
        found["dataset"],
        _imported(content, "normalised"),
        _imported(content, _CROPPED),
    )


def cropped_around_labels(root: Path) -> bool:
    """Whether the scans in `root` were cut around their labels when they were imported, as dataset.json records it."""
    try:
        return _imported(parse_json(read_text(root / "dataset.json")), _CROPPED)
    except (OSError, ValueError):
        return False


def _imported(content: Any, what: str) -> bool:
    try:
        return bool(content["imported"][what])
    except (KeyError, TypeError):
        return False


def _name(value: Any, root: Path) -> str:
    name = root.resolve().name if value is None else value
    if not isinstance(name, str) or not is_file_name(name):
        raise ValueError(f"expected a printable name without slashes, came {shown(value)}: choose another name")
    return name


def _channels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, dict) or not value:
        raise ValueError(f'expected names by channel number, as {{"0": "T1"}}, came {shown(value)}: correct it')
    wanted = [str(index) for index in range(len(value))]
    if sorted(value) != sorted(wanted):
        raise ValueError(f"expected the channel numbers {', '.join(wanted)}, came {shown(list(value))}: renumber them")
    return tuple(_text(value[index]) for index in wanted)


def init_command(root: Path, classes: Mapping[int, str], channels: Sequence[str] = ()) -> str:
    """The command that makes a new dataset of the images and labels in `root`, with classes by value in the files."""
    told = [f"--channels={','.join(channels)}"] if len(channels) > 1 else []
    told += [f"--classes={','.join(f'{value}={name}' for value, name in sorted(classes.items()))}"] if classes else []
    words = ["semiseg", "init", str(root / "imagesTr"), "--labels", str(root / "labelsTr"), *told, "-o", "NEW"]
    rest = ", and copy imagesUn into NEW" if (root / "imagesUn").is_dir() else ""
    return shlex.join(words) + rest


def _converted(root: Path, content: Mapping[str, Any]) -> str:
    """How a dataset of nnU-Net v1 or the Decathlon is brought in."""
    labels, modality = content.get("labels"), content["modality"]
    if not isinstance(labels, dict) or not all(key.isdigit() and _plain(name) for key, name in labels.items()):
        return init_command(root, {})
    files = sorted((root / "imagesTr").iterdir()) if (root / "imagesTr").is_dir() else []
    numbered = any(re.search(r"_0000\.nii(\.gz)?$", file.name, re.IGNORECASE) for file in files)
    if len(modality) > 1 and not numbered:  # one file with all channels, whose names init would look for in file names
        return shlex.join(["semiseg", "import", "msd", str(root), "-o", "NEW"])
    return init_command(root, {int(key): name for key, name in labels.items() if int(key)})


def _plain(name: Any) -> bool:
    return (
        isinstance(name, str)
        and name.isprintable()
        and name.strip() == name
        and not {",", "="} & {*name}
        and name != ""
    )


def _classes(value: Any, root: Path) -> tuple[str, ...]:
    if not isinstance(value, dict) or not value:
        raise ValueError(
            f'expected label values by class name, as {{"background": 0, "tumour": 1}}, came {shown(value)}: correct it'
        )
    odd = [name for name, number in value.items() if type(number) is not int]
    if odd:
        raise ValueError(
            f'expected one whole number per class, as {{"background": 0}}, came {shown(odd[0])}: '
            f"{shown(value[odd[0]])}: put the name first and give every class one number, without quotation marks "
            "(regions are not supported)"
        )
    if "ignore" in value:
        raise ValueError("expected classes only, came an 'ignore' label, which is not supported: relabel these voxels")
    numbers = sorted(value.values())
    named = {number: name for name, number in value.items() if number}
    fit = len(named) == len({*numbers} - {0}) and all(map(_plain, named.values())) and 0 < numbers[-1] < _MOST_CLASSES
    if fit and numbers != list(range(len(numbers))):
        remedy = f"number them so, here and in the label files, with {init_command(root, named)}"
        raise ValueError(
            f"expected the consecutive values 0 (background), 1, ..., came {shown(numbers)}: "
            + (remedy if numbers[0] == 0 else 'add "background": 0')
        )
    if numbers != list(range(len(numbers))) or not 2 <= len(numbers) <= _MOST_CLASSES:
        raise ValueError(
            f"expected the consecutive values 0 (background), 1, ..., at least two and at most {_MOST_CLASSES}, "
            f"came {shown(numbers)}: renumber them here and in the label files"
        )
    return tuple(_text(name) for name, _ in sorted(value.items(), key=lambda item: item[1]))


def _text(value: Any) -> str:
    if (
        not isinstance(value, str)
        or not value.isprintable()
        or not value
        or value.startswith(("/", "\\"))
        or ".." in value
    ):
        raise ValueError(
            f"expected a printable name that cannot be taken for a path elsewhere, came {shown(value)}: choose another"
        )
    return value


def _ending(value: Any, root: Path) -> str:
    ending = value.lower() if isinstance(value, str) else value
    if ending in ENDINGS:
        return str(ending)
    seen = _endings_in(root / "imagesTr")
    if isinstance(ending, str) and f".{ending}" in ENDINGS:
        remedy = f"put a dot before it, {shown(f'.{ending}')}"
    elif seen:
        remedy = f'write "file_ending": "{seen[0]}", as the files in imagesTr have it'
    else:
        remedy = "convert the files to NIfTI and name their ending here"
    raise ValueError(f"expected one of {', '.join(ENDINGS)}, came {shown(value)}: {remedy}")


def _endings_in(folder: Path) -> list[str]:
    """Endings of the scans in a folder, the most frequent first."""
    files = [file for file in folder.iterdir() if not file.name.startswith(".")] if folder.is_dir() else []
    return [ending for ending, _ in Counter(filter(None, map(ending_of, files))).most_common()]


def _spacing(value: Any) -> tuple[float, float, float] | None:
    if value is None:
        return None
    sides = value if isinstance(value, list) else []
    if len(sides) != 3 or not all(type(side) in (int, float) and 0 < side < _LONGEST_SIDE for side in sides):
        raise ValueError(f"expected three voxel sides in mm, as [0.5, 0.5, 3.0], came {shown(value)}: correct it")
    return float(value[0]), float(value[1]), float(value[2])


def _listing(value: Any) -> Mapping[str, tuple[tuple[str, ...], str | None]] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(f"expected files by case id, came {type(value).__name__}: correct it or leave it out")
    return {case: _listed(case, files) for case, files in value.items()}


def _listed(case: str, files: Any) -> tuple[tuple[str, ...], str | None]:
    images = files.get("images") if isinstance(files, dict) else None
    label = files.get("label") if isinstance(files, dict) else None
    if not isinstance(images, Sequence) or isinstance(images, str):
        raise ValueError(
            f'case {shown(case)}: expected {{"images": [...], "label": ...}}, came {shown(files)}: correct it'
        )
    for name in (case, *images, *([] if label is None else [label])):
        if not isinstance(name, str) or not inside(name):
            raise ValueError(
                f"case {shown(case)}: expected files inside of the dataset folder, came {shown(name)}: "
                "move or link the file into the folder and name it without '..' and without a leading slash"
            )
    return tuple(images), label
