"""Importing a dataset: find, convert in parallel, write; what an earlier run wrote is kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from semiseg.conversion.papers.base import Found, Imported, Importer, Item, Layout, importer
from semiseg.conversion.papers.official import restrict
from semiseg.conversion.papers.writing import CaseTask, done, import_case, write_description, write_splits
from semiseg.datasets.dataset import IMAGES
from semiseg.errors import InputError, raise_all
from semiseg.system.files import write_json
from semiseg.system.parallel import processes, worker_count

_SETTINGS = "import.json"
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".rar", ".7z", ".bz2", ".xz")


def import_dataset(
    name: str,
    source: Path,
    output: Path,
    options: Mapping[str, Any] | None = None,
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Imported:
    """Write the dataset `name`, downloaded to `source`, as a dataset folder `output`.

    Scans are found by name in a layout that the importer knows. dataset.json is written last, so a folder without it
    is unfinished; the same call completes it, and adds scans that have been added to the source.

    Args:
        name: of the importer.
        source: folder of the download, or of the preprocessed files that are passed around.
        output: folder to make.
        options: choices of the importer.
        workers: processes; 0 takes all cores that the memory allows.
        progress: called with the numbers of finished and of all cases.

    Raises:
        InputError: the dataset or an option is unknown; the source has none of the known layouts; every scan that is
            incomplete or cannot be read; `output` holds something else.
    """
    chosen = importer(name)
    settings = chosen.configure(options or {})
    layout, found = detect(chosen, Path(source), settings)
    raise_all([*found.problems, *_doubled(found.items)])
    root = Path(output)
    provenance = {"importer": name, "layout": layout.name, "options": settings.model_dump(mode="json")}
    _claim(root, provenance)
    description = chosen.describe(Path(source), layout, settings)
    tasks = [CaseTask(root, item, layout, settings, description) for item in found.items]
    raise_all(_convert(tasks, worker_count(workers, len(tasks), chosen.memory), progress))
    splits, notes = restrict(chosen.splits([item.case for item in found.items], settings), found.items)
    if description.oracle:
        notes = (_ORACLE, *notes)
    write_splits(root, splits)
    write_description(root, description, found.items, provenance)
    cases = tuple(sorted(item.case for item in found.items))
    return Imported(root, layout.name, cases, splits, (*found.notes, *notes))


_ORACLE = (
    "scans are cropped around their reference labels, those of test cases too, as the papers do: scores of such a "
    "dataset are of an oracle crop, and dataset.json says so"
)


def detect(chosen: Importer, source: Path, options: Any) -> tuple[Layout, Found]:
    """The first layout of which `source` has a scan, and its scans.

    Raises:
        InputError: `source` is no folder, or has none of the layouts; what each expects is told.
    """
    if not source.is_dir():
        hint = "extract the archive and name its folder" if source.suffix in _ARCHIVES else "check the path"
        raise InputError(f"{source}: expected the folder of {chosen.title}, found none: {hint}")
    if _is_dataset(source):
        raise InputError(
            f"{source}: expected the files of {chosen.title} as they are passed around, found a dataset folder in "
            f"nnU-Net's layout, which needs no import: semiseg check {source}"
        )
    empty: list[Found] = []
    for layout in chosen.layouts:
        found = layout.find(source, options)
        if found.items:
            return layout, found
        empty.append(found)
    broken = [problem for found in empty for problem in found.problems]
    raise_all(broken)
    expected = "; or ".join(f"{layout.name}: {layout.expected}" for layout in chosen.layouts)
    raise InputError(
        f"{source}: expected the files of {chosen.title} ({expected}), found {_contents(source)}: name the folder in "
        f"which they lie; to get them: {chosen.where}"
    )


def _is_dataset(folder: Path) -> bool:
    """Whether dataset.json is nnU-Net's: the Decathlon and AMOS bring a file of that name without `channel_names`."""
    with suppress(OSError, ValueError):
        return "channel_names" in json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    return False


def _contents(folder: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir() if not path.name.startswith("."))
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more if names else "an empty folder"


def _doubled(items: Sequence[Item]) -> Iterator[str]:
    counts = Counter(item.case for item in items)
    for case, count in counts.items():
        if count > 1:
            where = ", ".join(str(item.images[0]) for item in items if item.case == case)
            yield f"expected one scan of case {case!r}, found {count} ({where}): name the folder of one of them"


def _claim(root: Path, provenance: Mapping[str, Any]) -> None:
    """Take possession of a new folder, or make sure that it is ours, with cases of the same settings if any."""
    settings = root / _SETTINGS
    if settings.is_file():
        held = json.loads(settings.read_text(encoding="utf-8"))
        if held != provenance and (root / IMAGES).is_dir():
            raise InputError(
                f"{settings}: expected the settings of this import, {json.dumps(provenance)}, came "
                f"{json.dumps(held)}: choose another output folder, or remove this one"
            )
    elif root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"{root}: expected a new or empty folder, found other files: choose another folder")
    write_json(settings, provenance)


def _convert(tasks: Sequence[CaseTask], workers: int, progress: Callable[[int, int], None]) -> list[str]:
    problems: list[str] = []
    todo = [task for task in tasks if not done(task)]
    with processes(min(workers, max(len(todo), 1))) as run:
        for count, wrong in enumerate(run(import_case, todo), len(tasks) - len(todo) + 1):
            problems.extend(wrong)
            progress(count, len(tasks))
    return sorted(problems)
