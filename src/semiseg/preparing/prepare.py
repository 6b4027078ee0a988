"""From a dataset folder to a plan and a prepared store, in parallel, resumable at any moment."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from semiseg.datasets.dataset import Dataset
from semiseg.errors import InputError
from semiseg.preparing.cases import CaseTask, made_of, prepare_case, source_files, stamp, up_to_date
from semiseg.preparing.checks import check_and_measure
from semiseg.preparing.decoded import Spool, Stamps
from semiseg.preparing.fingerprint import Fingerprint, fingerprint
from semiseg.preparing.overrides import PlanOverrides
from semiseg.preparing.plan import Plan
from semiseg.preparing.planning import make_plan
from semiseg.preparing.store import STORE_VERSION, CaseFiles, CaseMeta, Store, writing_to
from semiseg.scans.readers import largest_scan
from semiseg.system.documents import parse_json, read_text
from semiseg.system.files import refuse_links, write_json, write_text
from semiseg.system.locks import locked
from semiseg.system.parallel import Map, processes, worker_count
from semiseg.system.shards import Shard

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

_BYTES_PER_VOXEL = 20  # source, normalised, spline coefficients, resampled, stored


_WIDEST_SCALE = 10.0  # standard deviation; those of z-scores and of a range of 0 to 1 lie far below


def prepare(
    dataset: Dataset,
    output: Path | None = None,
    *,
    workers: int = 0,
    plan: Path | None = None,
    wishes: PlanOverrides = PlanOverrides(),
    apart: bool = False,
    shard: Shard | None = None,
    progress: Progress | None = None,
) -> Store:
    """Check, measure, plan and prepare `dataset`; what is already done is not done again.

    The result depends on the dataset and the plan alone, not on the number of workers nor on kills on the way.

    Args:
        dataset: its folder is only read.
        output: folder for `plan.json`, `fingerprint.json` and `store/`; default as `prepared_folder` has it.
        workers: processes; 0 takes as many as there are cores, as far as memory allows.
        plan: plan to use; by default the one in `output` if a person edited it, else a new one.
        wishes: decisions that a new plan takes over; a person's plan must agree with them.
        apart: open scans and labels in other processes only, so that this one cannot have seen a label.
        shard: prepare only its cases. The shard that comes first plans, the others wait for the plan.
        progress: called with the numbers of prepared cases and of all cases.

    Raises:
        InputError: problems of the dataset or the plan, or `output` cannot be written.
    """
    root, elsewhere = dataset.root, "remove the link, or name the folder itself with --prepared DIR"
    if output is None:
        refuse_links(root, wishes.folder, remedy=elsewhere)
    output = prepared_folder(root, output, wishes)
    refuse_links(output, "store", ".lock", remedy=elsewhere)
    given = None if plan is None else Plan.load(plan)
    mine = list(dataset.cases) if shard is None else shard.of(dataset.cases)
    with ExitStack() as stack:
        stack.enter_context(_alone(output, "" if shard is None else shard.name))
        stamps = {case.id: stamp(root, source_files(case)) for case in dataset.cases.values()}
        metas = {case: CaseFiles(output / "store", case).read_meta() for case in mine}
        stale = [case for case, meta in metas.items() if not made_of(meta, stamps[case])]
        files = _files(dataset, stamps)
        known = None if shard is not None else _known(output, files)
        count = worker_count(workers, len(dataset.cases), _BYTES_PER_VOXEL * _largest(dataset, known))
        spool = stack.enter_context(_spool(output / "store", stale))
        run = stack.enter_context(processes(count, apart=apart))
        if shard is None:
            _clean(output / "store", dataset)
        with nullcontext() if shard is None else _alone(output, "plan"):
            if shard is not None:
                known = _known(output, files)
            found = known or _measured(dataset, files, output, run, spool)
            chosen = _planned(dataset, found, output, given, wishes)
        tasks = [CaseTask(root, spool, dataset.cases[case], chosen, metas[case]) for case in mine]
        metas |= _prepare_cases(tasks, stamps, run, progress or (lambda done, total: None))
        if shard is None:
            _clean(output / "store", dataset)  # again: workers of a killed preparation outlive it for a moment
    return Store(output, chosen, {case: meta for case in mine if (meta := metas[case]) is not None})


def prepared_folder(root: Path, output: Path | None, wishes: PlanOverrides) -> Path:
    """Where the dataset in `root` is prepared: `output`, or `root/prepared`, with `wishes` a folder beside it, so that
    runs that ask for different stores do not replace each other's.
    """
    return output or root / wishes.folder


def _planned(dataset: Dataset, found: Fingerprint, output: Path, given: Plan | None, wishes: PlanOverrides) -> Plan:
    """The plan to prepare with, after the dataset was checked and measured."""
    automatic = make_plan(found, wishes=wishes, normalised=dataset.normalised)
    first = not (output / "plan.json").is_file()
    chosen = _choose(output / "plan.json", given, automatic, wishes)
    for warning in _unscaled(chosen, found) if first else ():
        _log.warning("warning: %s", warning)
    return chosen


def _files(dataset: Dataset, stamps: Mapping[str, Stamps]) -> dict[str, list[int]]:
    """Size and time of last change of all files that the measurements depend on."""
    description = stamp(dataset.root, [dataset.root / "dataset.json"])
    return {name: list(pair) for each in (description, *stamps.values()) for name, pair in each.items()}


def _known(output: Path, files: Mapping[str, list[int]]) -> Fingerprint | None:
    """What was measured before, if no file has changed since."""
    with suppress(OSError, ValueError, InputError):
        state = parse_json(read_text(output / "sources.json"))
        text = read_text(output / "fingerprint.json")
        if state == _state(files, text):
            return Fingerprint.model_validate_json(text)
    return None


def _measured(dataset: Dataset, files: Mapping[str, list[int]], output: Path, run: Map, spool: Spool) -> Fingerprint:
    """Check and measure the dataset, and keep what was measured."""
    report, measured = check_and_measure(dataset, run, spool)
    report.raise_if_errors()
    for warning in report.warnings:
        _log.warning("warning: %s", warning)
    found = fingerprint(dataset, measured)
    text = json.dumps(found.model_dump(mode="json"), indent=2) + "\n"
    with writing_to(output):
        (output / "sources.json").unlink(missing_ok=True)
        write_text(output / "fingerprint.json", text)
        write_json(output / "sources.json", _state(files, text))
    return found


def _state(files: Mapping[str, list[int]], text: str) -> dict[str, Any]:
    return {"version": STORE_VERSION, "files": files, "fingerprint": hashlib.sha256(text.encode()).hexdigest()}


def _largest(dataset: Dataset, known: Fingerprint | None) -> int:
    """Voxels in all channels of the largest scan, about."""
    if known is None:
        return largest_scan(case.images for case in dataset.cases.values())
    return max(math.prod(case.shape) for case in known.cases.values()) * len(known.channels)


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


def _prepare_cases(
    tasks: list[CaseTask], stamps: Mapping[str, Stamps], run: Map, progress: Progress
) -> dict[str, CaseMeta | None]:
    """Bring the cases up to date; the meta data of those that were not."""
    found: dict[str, CaseMeta | None] = {}
    waiting = [task for task in tasks if not up_to_date(task, stamps[task.case.id])]
    done = len(tasks) - len(waiting)
    progress(done, len(tasks))
    for case, meta in run(prepare_case, waiting):
        found[case] = meta
        done += 1
        progress(done, len(tasks))
    return found


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
