"""From a dataset folder to a plan and a prepared store, in parallel, resumable at any moment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from semiseg.datasets.dataset import Dataset, open_dataset
from semiseg.datasets.description import normalised
from semiseg.errors import InputError
from semiseg.preparing.cases import CaseTask, prepare_case, source_files, stamp, up_to_date
from semiseg.preparing.checks import check_and_measure
from semiseg.preparing.decoded import Spool
from semiseg.preparing.fingerprint import Fingerprint, fingerprint
from semiseg.preparing.overrides import PlanOverrides
from semiseg.preparing.plan import Plan
from semiseg.preparing.planning import make_plan
from semiseg.preparing.store import STORE_VERSION, Store, open_store, writing_to
from semiseg.scans.readers import largest_scan
from semiseg.system.documents import parse_json, read_text
from semiseg.system.files import refuse_links, sha256, write_json
from semiseg.system.locks import locked
from semiseg.system.parallel import Map, processes, worker_count
from semiseg.system.shards import Shard

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

_BYTES_PER_VOXEL = 20  # source, normalised, spline coefficients, resampled, stored


_WIDEST_SCALE = 10.0  # standard deviation; those of z-scores and of a range of 0 to 1 lie far below


def prepare(
    root: Path,
    output: Path | None = None,
    *,
    workers: int = 0,
    plan: Path | None = None,
    wishes: PlanOverrides = PlanOverrides(),
    apart: bool = False,
    shard: Shard | None = None,
    progress: Progress | None = None,
) -> Store:
    """Check, measure, plan and prepare the dataset in `root`; what is already done is not done again.

    The result depends on the dataset and the plan alone, not on the number of workers nor on kills on the way.

    Args:
        root: dataset folder; it is only read.
        output: folder for `plan.json`, `fingerprint.json` and `store/`; default `root/prepared`, with `wishes` a folder
            beside it, so that runs that ask for different stores do not replace each other's.
        workers: processes; 0 takes as many as there are cores, as far as memory allows.
        plan: plan to use; by default the one in `output` if a person edited it, else a new one.
        wishes: decisions that a new plan takes over; a person's plan must agree with them.
        apart: open scans and labels in other processes only, so that this one cannot have seen a label.
        shard: prepare only its cases. The shard that comes first plans, the others wait for the plan.
        progress: called with the numbers of prepared cases and of all cases.

    Raises:
        InputError: problems of the dataset or the plan, or `output` cannot be written.
    """
    elsewhere = "remove the link, or name the folder itself with --prepared DIR"
    if output is None:
        refuse_links(root, wishes.folder, remedy=elsewhere)
        output = root / wishes.folder
    refuse_links(output, "store", ".lock", remedy=elsewhere)
    dataset = open_dataset(root)
    given = None if plan is None else Plan.load(plan)
    largest = largest_scan(case.images for case in dataset.cases.values())
    count = worker_count(workers, len(dataset.cases), _BYTES_PER_VOXEL * largest)
    mine = list(dataset.cases) if shard is None else shard.of(dataset.cases)
    with (
        _alone(output, "" if shard is None else shard.name),
        _spool(output / "store", mine) as spool,
        processes(count, apart=apart) as run,
    ):
        if shard is None:
            _clean(output / "store", dataset)
        with nullcontext() if shard is None else _alone(output, "plan"):
            chosen = _planned(dataset, output, given, wishes, run, spool)
        tasks = [CaseTask(root, spool, dataset.cases[case], chosen) for case in mine]
        _prepare_cases(tasks, run, progress or (lambda done, total: None))
        if shard is None:
            _clean(output / "store", dataset)  # again: workers of a killed preparation outlive it for a moment
        return open_store(output, mine)


def _planned(dataset: Dataset, output: Path, given: Plan | None, wishes: PlanOverrides, run: Map, spool: Spool) -> Plan:
    """The plan to prepare with, after the dataset was checked and measured."""
    found = _fingerprint(dataset, output, run, spool)
    automatic = make_plan(found, wishes=wishes, normalised=normalised(dataset.root))
    first = not (output / "plan.json").is_file()
    chosen = _choose(output / "plan.json", given, automatic, wishes)
    for warning in _unscaled(chosen, found) if first else ():
        _log.warning("warning: %s", warning)
    return chosen


def _fingerprint(dataset: Dataset, output: Path, run: Map, spool: Spool) -> Fingerprint:
    """Check and measure the dataset, unless no file has changed since that was last done."""
    sources, target = output / "sources.json", output / "fingerprint.json"
    files = {name: list(pair) for name, pair in stamp(dataset.root, _all_files(dataset)).items()}

    def state() -> dict[str, Any]:
        return {"version": STORE_VERSION, "files": files, "fingerprint": sha256(target)}

    with suppress(OSError, ValueError, InputError):
        if parse_json(read_text(sources)) == state():
            return Fingerprint.model_validate_json(read_text(target))
    report, measured = check_and_measure(dataset.root, run, spool)
    report.raise_if_errors()
    for warning in report.warnings:
        _log.warning("warning: %s", warning)
    found = fingerprint(dataset, measured)
    with writing_to(output):
        sources.unlink(missing_ok=True)
        write_json(target, found.model_dump(mode="json"))
        write_json(sources, state())
    return found


def _all_files(dataset: Dataset) -> list[Path]:
    return [dataset.root / "dataset.json", *(file for case in dataset.cases.values() for file in source_files(case))]


def _choose(path: Path, given: Plan | None, automatic: Plan, wishes: PlanOverrides) -> Plan:
    """The plan to prepare with, which is also what then stands in `path`."""
    old = Plan.load(path) if path.is_file() and given is None else None
    if given is not None:
        chosen = given.model_copy(update={"automatic": ""})  # kept from now on, like an edited one
    elif old is not None and old.edited:
        chosen = old
    else:
        chosen = automatic
    chosen = chosen.measured_as(automatic)
    wishes.check(chosen, path)
    differing = [name for name in ("channels", "class_names") if getattr(chosen, name) != getattr(automatic, name)]
    if differing:
        raise InputError(
            *(
                f"{path}: {name}: the dataset has {list(getattr(automatic, name))}, the plan has "
                f"{list(getattr(chosen, name))}: correct the plan, or delete it to have the dataset planned anew"
                for name in differing
            )
        )
    if chosen != old:
        with writing_to(path.parent):
            chosen.save(path)
    return chosen


def _unscaled(plan: Plan, found: Fingerprint) -> Iterator[str]:
    """Channels whose intensities are taken as they are, though they look as no import left them."""
    for channel, scale, measured in zip(plan.channels, plan.normalisation, found.intensities, strict=True):
        if scale.scheme == "none" and measured.std > _WIDEST_SCALE:
            yield (
                f"{channel}: expected normalised intensities, for the plan takes them as they are, came "
                f"{measured.minimum:.4g} ... {measured.maximum:.4g}: bring the scans in by semiseg import, as presets "
                "expect them, or set plan.normalisation=zscore"
            )


def _clean(folder: Path, dataset: Dataset) -> None:
    """Remove unfinished files, and those of cases that the dataset no longer has."""
    with writing_to(folder):
        for file in sorted(folder.glob("*")):
            ours = [file.name.removesuffix(e) for e in (".json", ".image.npy", ".label.npy") if file.name.endswith(e)]
            unfinished = file.name.startswith(".") and file.name.endswith(".part")
            if unfinished or (ours and ours[0] not in dataset.cases):
                file.unlink(missing_ok=True)


def _prepare_cases(tasks: list[CaseTask], run: Map, progress: Progress) -> None:
    waiting = [task for task in tasks if not up_to_date(task)]
    done = len(tasks) - len(waiting)
    progress(done, len(tasks))
    for _ in run(prepare_case, waiting):
        done += 1
        progress(done, len(tasks))


@contextmanager
def _spool(folder: Path, cases: Iterable[str]) -> Iterator[Spool]:
    """A spool in the folder of the store, of which nothing is left behind."""
    with writing_to(folder):
        spool = Spool.within(folder, cases)
    try:
        yield spool
    finally:
        spool.clear()


@contextmanager
def _alone(folder: Path, part: str = "") -> Iterator[None]:
    """Wait until no other process prepares into `folder`, or that part of it."""
    with ExitStack() as stack:
        with writing_to(folder):
            stack.enter_context(locked(folder, wait=True, part=part))
        yield
