"""Any task of the Medical Segmentation Decathlon (Antonelli et al., Nature Communications 2022) as downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from semiseg.conversion.papers.base import Description, Found, Importer, Item, Layout, Options, Scan, register
from semiseg.conversion.papers.reading import read_volume
from semiseg.datasets.splits import Split
from semiseg.scans.formats import format_of
from semiseg.scans.formats.base import Request
from semiseg.scans.found import stem_of
from semiseg.scans.readers import read_header
from semiseg.system.documents import read_json
from semiseg.system.file_names import inside

_MEANING = "dataset.json of a Decathlon task with modality, labels, training and test"
_ENDINGS = (".nii.gz", ".nii")


class MSDOptions(Options):
    """Which scans of a task are taken."""

    unlabelled: bool = Field(True, description="take the scans of imagesTs, whose labels are not public, as unlabelled")


def _convert(item: Item, options: MSDOptions) -> Scan:
    """A file that has several channels keeps them along its fourth axis."""
    path = item.images[0]
    count = read_header(path).channels
    volume = format_of(path).read_volume(path, Request(channels=count))
    return Scan(volume.array, None if item.label is None else read_volume(item.label)[0], volume.affine)


def _find(source: Path, options: MSDOptions) -> Found:
    tasks = _tasks(source)
    if not tasks:
        return Found()
    if len(tasks) > 1:
        names = ", ".join(task.name for task in tasks)
        return Found(
            problems=(f"{source}: expected one task, found {len(tasks)} ({names}): name one of these folders",)
        )
    content = read_json(tasks[0] / "dataset.json", _MEANING)
    problems = list(_content_problems(tasks[0], content))
    if problems:
        return Found(problems=tuple(problems))
    return _listed(tasks[0], content, options)


def _tasks(source: Path) -> list[Path]:
    """`source`, or the folders of tasks in it."""
    folders = [source, *sorted(source.glob("Task*"))]
    return [folder for folder in folders if (folder / "dataset.json").is_file()]


def _content_problems(task: Path, content: Mapping[str, Any]) -> Iterator[str]:
    path = task / "dataset.json"
    for key in ("modality", "labels"):
        value = content.get(key)
        if not isinstance(value, dict) or sorted(value) != sorted(map(str, range(len(value)))) or not value:
            yield f'{path}: {key}: expected names by number from 0, as {{"0": "CT"}}, came {value!r}: correct it'
    for key in ("training", "test"):
        for entry in content.get(key) or ():
            names = [entry.get("image"), entry.get("label")] if isinstance(entry, dict) else [entry]
            if not all(isinstance(name, str) and inside(name) and name.lower().endswith(_ENDINGS) for name in names):
                yield f"{path}: {key}: expected NIfTI files of the task's own folder, came {entry!r}: correct it"


def _listed(task: Path, content: Mapping[str, Any], options: MSDOptions) -> Found:
    """Items of the lists in dataset.json; scans that are not there at all are left out, and said."""
    items, problems, absent = [], [], []
    for entry in content.get("training") or ():
        image, label = task / entry["image"], task / entry["label"]
        here = image.is_file(), label.is_file()
        if all(here):
            items.append(Item(_case(image), (image,), label))
        elif any(here):
            missing, found = (label, image) if here[0] else (image, label)
            problems.append(f"{missing}: expected this file beside {found.name}, found none: extract the archive again")
        else:
            absent.append(_case(image))
    tests = [task / name for name in content.get("test") or ()] if options.unlabelled else []
    items += [Item(_case(image), (image,)) for image in tests if image.is_file()]
    absent += [_case(image) for image in tests if not image.is_file()]
    notes = (
        [f"{len(absent)} scan(s) that dataset.json lists are not there ({_few(absent)}): left out"] if absent else []
    )
    return Found(tuple(items), tuple(problems), tuple(notes))


def _case(image: Path) -> str:
    return stem_of(image)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _describe(source: Path, layout: Layout, options: MSDOptions) -> Description:
    (task,) = _tasks(source)
    content = read_json(task / "dataset.json", _MEANING)
    channels, labels = (
        tuple(content[key][str(number)] for number in range(len(content[key]))) for key in ("modality", "labels")
    )
    return Description(str(content.get("name") or task.name), channels, labels)


def _splits(cases: Sequence[str], options: MSDOptions) -> Mapping[str, Split]:
    return {}


IMPORTER = register(
    Importer(
        name="msd",
        title="Medical Segmentation Decathlon, any of its ten tasks",
        where="http://medicaldecathlon.com (CC BY-SA 4.0), TaskNN_NAME.tar",
        layouts=(Layout("download", "dataset.json with modality, imagesTr, labelsTr, imagesTs", _find, _convert),),
        describe=_describe,
        splits=_splits,
        options=MSDOptions,
        memory=2 << 30,
    )
)
