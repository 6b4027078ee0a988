"""From two folders of scans in any format and under any names to a dataset folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from semiseg.conversion.classes import Classes, choose_classes
from semiseg.conversion.convert import CaseTask, bring, label_counts
from semiseg.conversion.growth import Growth, grown, state_after, state_of
from semiseg.conversion.sources import InitOptions, Sources, find_sources
from semiseg.datasets.dataset import IMAGES, LABELS, Case, group_by_pattern
from semiseg.errors import InputError, raise_all
from semiseg.preparing.checks import Report, check
from semiseg.scans.formats import ending_of
from semiseg.scans.readers import largest_scan, read_header
from semiseg.system.documents import read_json
from semiseg.system.files import write_json
from semiseg.system.parallel import Map, processes, worker_count

_BYTES_PER_VOXEL = 16


@dataclass(frozen=True)
class Initialised:
    """A new dataset folder, what was decided on the way, and what `check` found in it."""

    root: Path
    notes: tuple[str, ...]
    report: Report


def init_dataset(
    images: str | Path,
    labels: str | Path | None,
    output: Path,
    options: InitOptions,
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Initialised:
    """Make the dataset folder `output` of images and labels, or add them to it, check it, and say what was decided.

    NIfTI files are linked, everything else is converted to `.nii.gz`; `dataset.json` is written last, and a call that
    was stopped is continued by the same call. What the folder holds already stays, under its names.

    Args:
        images: folder, or pattern such as `SRC/*/t1.nrrd`; every file below that can be read is an image.
        labels: likewise; the same folder when names tell labels (`seg`, `mask`, `label`, ...) apart; without it,
            labels are taken from HDF5 or NumPy files that hold both.
        output: folder to make, or one that this function made.
        options: see there.
        workers: processes; 0 takes as many as there are cores, as far as memory allows.
        progress: called with the numbers of finished cases and of all cases.

    Raises:
        InputError: files that cannot be assigned or read, names that do not fit, or a folder that is already in use;
            all problems of the names are told together, and then all of the files.
    """
    _refuse_inside(output, images, labels)
    sources, before = find_sources(images, labels, options), state_of(output)
    growth = grown(before, sources, options, output)
    sources, options = growth.sources, growth.options
    there = [paths for paths in sources.images.values() if all(path.exists() for path in paths)]
    count = worker_count(workers, len(sources.images), _BYTES_PER_VOXEL * largest_scan(there))
    with processes(count) as run:
        found = _label_values(sources, run)
        earlier = set(before.values if before else ()).difference(*found.values())
        classes = choose_classes(
            options.classes, found | ({output / LABELS: dict.fromkeys(earlier, 1)} if earlier else {})
        )
        ending = _ending(sources) if before is None else _old_ending(output) or _ending(sources)
        renamed = before is not None and tuple(before.options.get("classes", ())) != options.classes
        _forget(output, growth, ending, labels=renamed or _renumbering(output, classes))
        state_after(growth, tuple(sorted(earlier.union(*found.values())))).save(output)
        tasks = _tasks(output, sources, classes, options, ending)
        problems: list[str] = []
        for done, wrong in enumerate(run(bring, tasks), start=1):
            problems += wrong
            progress(done, len(tasks))
    raise_all(sorted(problems))
    notes = (*sources.notes, *_notes(sources, classes, options), *(growth.notes if before else ()))
    _describe(output, sources, classes, options, ending)
    return Initialised(output, notes, check(output, workers))


def _old_ending(root: Path) -> str | None:
    """The ending that the files of a dataset have."""
    file = root / "dataset.json"
    return str(read_json(file, "a dataset's description")["file_ending"]) if file.is_file() else None


def _forget(root: Path, growth: Growth, ending: str, *, labels: bool) -> None:
    """Remove what has to be brought in anew: files of changed cases, and all `labels` where their values change."""
    gone = [path for path in growth.sources.labels.values() if labels and not path.exists()]
    raise_all(
        f"{path}: the classes change, so all labels are brought in anew, and this one is gone: restore it, or make a "
        "new dataset"
        for path in gone
    )
    for case in growth.changed:
        for file in (root / IMAGES).glob(f"{case}_????{ending}"):
            file.unlink()
    for case in growth.sources.labels if labels else growth.changed:
        (root / LABELS / f"{case}{ending}").unlink(missing_ok=True)


def _renumbering(root: Path, classes: Classes) -> bool:
    """Whether a finished dataset in `root` has labels with other values than `classes` give them."""
    file = root / "dataset.json"
    if not file.is_file():
        return False
    labels = read_json(file, "a dataset's description")["labels"]
    return any(labels.get(name) != value for value, name in enumerate(classes.names)) or len(labels) != len(
        classes.names
    )


def _refuse_inside(output: Path, *sources: str | Path | None) -> None:
    """Refuse a dataset among the files that it is made of: the next call would take it for scans."""
    target = output.resolve()
    for source in sources:
        folder = None if source is None else Path(source).resolve()
        if folder is not None and folder.is_dir() and target.is_relative_to(folder):
            raise InputError(
                f"{output}: expected a folder outside of {source}, of whose files the dataset is made: choose another "
                "one, as in -o DATA"
            )


def _label_values(sources: Sources, run: Map) -> dict[Path, dict[int, int]]:
    found: dict[Path, dict[int, int]] = {}
    problems: list[str] = []
    for path, counts, wrong in run(_survey, [path for path in sources.labels.values() if path.exists()]):
        found |= {path: counts} if not wrong else {}
        problems += wrong
    if problems and not found and all("expected whole numbers" in problem for problem in problems):
        problems.insert(0, "no label file holds labels: are the folders of images and labels swapped?")
        raise InputError(*problems)
    raise_all(sorted(problems))
    return dict(sorted(found.items()))


def _survey(path: Path) -> tuple[Path, dict[int, int], tuple[str, ...]]:
    try:
        return path, label_counts(path), ()
    except InputError as error:
        return path, {}, error.problems


def _tasks(root: Path, sources: Sources, classes: Classes, options: InitOptions, ending: str) -> list[CaseTask]:
    """Cases to bring in; those that are there already and whose sources are gone stay as they are."""
    tasks = [
        CaseTask(
            images=paths,
            image_targets=tuple(
                root / IMAGES / f"{case}_{number:04d}{ending}" for number in range(len(sources.channels))
            ),
            label=sources.labels.get(case),
            label_target=root / LABELS / f"{case}{ending}",
            values=classes.values,
            spacing=options.spacing,
            copy=options.copy,
        )
        for case, paths in sources.images.items()
    ]
    return [task for task in tasks if not _gone(task)]


def _gone(task: CaseTask) -> bool:
    """Whether a case is whole, and a source of it is not there any more."""
    files = [*task.images, *([task.label] if task.label else [])]
    targets = [*task.image_targets, *([task.label_target] if task.label else [])]
    return not all(file.exists() for file in files) and all(target.is_file() for target in targets)


def _ending(sources: Sources) -> str:
    """`.nii` where all files have it, so that they can be linked; otherwise `.nii.gz`."""
    files = [*sources.labels.values(), *(path for paths in sources.images.values() for path in paths)]
    return ".nii" if all(ending_of(path) == ".nii" for path in files) else ".nii.gz"


def _describe(root: Path, sources: Sources, classes: Classes, options: InitOptions, ending: str) -> None:
    if options.patients is not None:
        cases = group_by_pattern([Case(case, (), None, case) for case in sources.images], options.patients, [])
        write_json(root / "patients.json", {case.id: case.patient for case in cases})
    content = {
        "name": root.resolve().name,
        "channel_names": {str(number): name for number, name in enumerate(sources.channels)},
        "labels": {name: value for value, name in enumerate(classes.names)},
        "numTraining": len(sources.labels),
        "file_ending": ending,
    }
    write_json(root / "dataset.json", content)


def _notes(sources: Sources, classes: Classes, options: InitOptions) -> list[str]:
    guessed = "" if options.channels else " (by names and values; --channels says otherwise)"
    notes = [
        f"{len(sources.images)} cases, {len(sources.labels)} with a label",
        f"channels: {', '.join(sources.channels)}{guessed}",
        f"classes: {', '.join(f'{value} {name}' for value, name in enumerate(classes.names))}"
        + ("" if options.classes else " (name them with --classes, or in dataset.json)"),
    ]
    if classes.values:
        moves = ", ".join(f"{old} -> {new}" for old, new in classes.values.items() if old != new)
        notes.append(f"label values renumbered: {moves}")
    there = {case: paths[0] for case, paths in sources.images.items() if paths[0].exists()}
    unrecorded = [case for case, path in there.items() if not read_header(path).recorded]
    if unrecorded:
        sides = " x ".join(f"{side:g}" for side in options.spacing or (1, 1, 1))
        told = "" if options.spacing else "; distances are then in voxels, give the sides with --spacing"
        notes.append(f"{len(unrecorded)} scans record no spacing, {sides} mm is taken{told}")
    return notes
