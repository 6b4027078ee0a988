"""From scans to a prepared dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semiseg.conversion.init import Initialised
    from semiseg.conversion.papers.base import Imported
    from semiseg.preparing.checks import Report
    from semiseg.preparing.store import Store
    from semiseg.system.cluster import Cluster

PathLike = str | Path


def as_path(value: PathLike | None) -> Path | None:
    """`value` as a path, if there is one."""
    return None if value is None else Path(value)


def absolute(*values: PathLike | None) -> list[Any]:
    """Paths that stay right in a job, which is started in another folder."""
    return [None if value is None else Path(value).absolute() for value in values]


@contextmanager
def _bar(words: str, show: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, and what is told how much is done, and of how much."""
    from rich.progress import Progress

    with Progress(disable=not show) as bar:
        task = bar.add_task(words, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def check(data: PathLike, *, workers: int = 0) -> Report:
    """Open every file of a dataset folder and report all problems at once, each with its remedy.

    `workers` is the number of cases that are open at a time; 0 takes one per core, as far as memory allows.
    """
    from semiseg.preparing.checks import check as run

    return run(Path(data), workers)


def init_dataset(
    images: PathLike,
    labels: PathLike | None,
    output: PathLike,
    *,
    workers: int = 0,
    show: bool = False,
    **options: Any,
) -> Initialised:
    """Make a dataset folder of two folders of scans, or add to one; any readable format, any names that match.

    NIfTI files are linked, everything else is converted to `.nii.gz`; `dataset.json` is written last, and the same call
    again continues one that was stopped.

    Args:
        images: folder, or pattern such as `SRC/*/t1.nrrd`.
        labels: likewise; may be the folder of the images where names tell labels apart; None takes labels from files
            that hold both, if there are such.
        output: folder to make.
        workers: processes; 0 takes all cores.
        show: progress bar.
        options: fields of `semiseg.conversion.sources.InitOptions`: `classes=("liver", "kidney")`,
            `channels=("t1", "t2")`, `pattern`, `patients`, `spacing=(0.5, 0.5, 3.0)`, `copy`.

    Raises:
        InputError: files that cannot be assigned or read, or names that do not fit; all problems are named.
    """
    from semiseg.conversion.init import init_dataset as run
    from semiseg.conversion.sources import InitOptions

    with _bar("bringing in", show) as progress:
        return run(images, labels, Path(output), InitOptions(**options), workers=workers, progress=progress)


def prepare(
    data: PathLike,
    prepared: PathLike | None = None,
    *,
    workers: int = 0,
    plan: PathLike | None = None,
    preset: str | None = None,
    shard: str | None = None,
    cluster: Cluster | None = None,
    show: bool = False,
) -> Store:
    """Plan the dataset and write the prepared store; what is there already and still true is kept.

    Args:
        data: dataset folder in nnU-Net's raw layout.
        prepared: folder to write; default `prepared` inside the dataset folder, with a preset one beside it.
        workers: processes; 0 takes all cores.
        plan: an edited plan.json to follow instead of a new one.
        preset: whose decisions the plan takes over, as runs with this preset ask for them.
        shard: `2/8` prepares the second eighth of the cases; the store that is returned holds these alone.
        cluster: do that by jobs, one per shard, and wait for them.
        show: progress bar.

    Raises:
        InputError: problems of the data, or the folder cannot be written.
    """
    from semiseg.datasets.dataset import open_dataset
    from semiseg.preparing.prepare import prepare as run
    from semiseg.preparing.prepare import prepared_folder
    from semiseg.settings.presets import wishes
    from semiseg.system.cluster import on_cluster
    from semiseg.system.shards import Shard

    if cluster is not None:
        paths = absolute(data, prepared, plan)
        call = partial(_prepare_shard, *paths, workers=workers, preset=preset)
        on_cluster(call, cluster, prepared_folder(paths[0], paths[1], wishes(preset)) / ".jobs")
    with _bar("preparing", show) as progress:
        return run(
            open_dataset(Path(data)),
            as_path(prepared),
            workers=workers,
            plan=as_path(plan),
            wishes=wishes(preset),
            shard=None if shard is None else Shard.parse(shard),
            progress=progress,
        )


def _prepare_shard(data: Path, prepared: Path | None, plan: Path | None, **options: Any) -> None:
    """What a job does; the store itself stays on the disk."""
    prepare(data, prepared, plan=plan, **options)


def import_dataset(
    name: str,
    source: PathLike,
    output: PathLike,
    *,
    options: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    workers: int = 0,
    show: bool = False,
) -> Imported:
    """Write a dataset of the papers, downloaded to `source`, as a dataset folder with the published splits.

    Args:
        name: of the dataset; `semiseg import` lists them.
        source: folder of the download, or of the preprocessed files that are passed around.
        output: folder to write; a killed import goes on where it was.
        options: choices of the dataset's preprocessing; the defaults are the published ones.
        assignments: options as the command line's `--set` takes them, `line=coranet`.
        workers: processes; 0 takes all cores.
        show: progress bar.

    Raises:
        InputError: unknown dataset or option, files that are missing or cannot be read; all problems are named.
    """
    from semiseg.conversion.papers.run import import_dataset as run
    from semiseg.settings.merge import assign

    values = dict(options or {})
    for assignment in assignments:
        assign(values, assignment, "seed=1")
    with _bar("importing", show) as progress:
        return run(name, Path(source), Path(output), values, workers=workers, progress=progress)
