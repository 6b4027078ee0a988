"""One cell, from training to scores, the record of how it went and what it took, and whether that is asked for now."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from semiseg.comparison.cells import Cell
from semiseg.comparison.opened import Opened
from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from semiseg.runs.folder import Run
from semiseg.settings.run import RunConfig
from semiseg.speed.operations import step_flops, trained_parameters
from semiseg.system.files import sha256, write_json
from semiseg.system.locks import locked
from semiseg.system.memory import reuse_freed_memory

State = Literal["finished", "failed", "open"]
_PATIENCE = 60.0
"""Seconds to wait for a process of a killed comparison to let go of a run folder."""
_SHOWN = 3


@dataclass(frozen=True)
class Task:
    """What a process needs to know of a cell: settings, run folder, file of its record, and threads (0: as many as
    there are cores).
    """

    config: RunConfig
    folder: Path
    record: Path
    threads: int = 0


def task_of(cell: Cell, output: Path, threads: int = 0) -> Task:
    """The task of a cell."""
    return Task(cell.config, cell.folder(output), output / "cells" / f"{cell.name}.json", threads)


@dataclass(frozen=True)
class Record:
    """How a cell went.

    Attributes:
        state: finished, failed (and will be tried again) or open.
        message: what failed.
        seconds: of training, prediction and scoring; NaN where it is not known, as after a kill at the wrong moment.
        seconds_per_step: of the last stretch of training that was not interrupted.
        patches_per_second: median over the log.
        peak_memory: most bytes that this stretch of training held, see `peak_memory`.
        scores: checksum of the scores.
        parameters, flops_per_step: see `semiseg.speed.operations`.
    """

    state: State = "open"
    message: str = ""
    steps: int = 0
    seconds: float | None = None
    seconds_per_step: float | None = None
    patches_per_second: float | None = None
    peak_memory: int | None = None
    scores: str = ""
    parameters: int | None = None
    flops_per_step: float | None = None


def record_of(task: Task) -> Record:
    """The record of a task as it is on the disk; finished only when its scores are whole."""
    if not task.record.is_file():
        return Record()
    found = Record(**json.loads(task.record.read_text(encoding="utf-8")))
    scores = task.folder / "scores.csv"
    if found.state == "finished" and not (scores.is_file() and sha256(scores) == found.scores):
        return Record()
    return found


def work(task: Task) -> bool:
    """Do what is left of a cell; False when a signal stopped it. What goes wrong is kept in its record."""
    reuse_freed_memory()
    try:
        return _work(task)
    except InputError as error:
        fail(task, "; ".join(error.problems))
    except Exception as error:
        fail(task, f"{type(error).__name__}: {error}", traceback.format_exc())
    return True


def note_death(task: Task, status: int) -> None:
    """Record that the process of a cell died with the exit status `status`."""
    how = f"signal {-status}, most often because memory ran out" if status < 0 else f"exit status {status}"
    fail(task, f"its process was ended from outside ({how}): use fewer --workers")


def _work(task: Task) -> bool:
    from semiseg.evaluation.runs import evaluate_run
    from semiseg.prediction.run import predict_run
    from semiseg.training.train import train

    if task.threads:
        import torch

        torch.set_num_threads(task.threads)
    run = Run(task.folder)
    _wait_until_free(run)
    task.record.unlink(missing_ok=True)
    before, began = steps_done(run), time.perf_counter()
    dataset = open_dataset(task.config.data, task.config.patient_pattern)
    run = train(task.config, task.folder, show=False, dataset=dataset)
    if not run.finished:
        return False
    seconds, kept = time.perf_counter() - began, task.record.with_suffix(".cost.json")
    cost = cost_of(run, kept, steps_done(run) - before, seconds)
    began = time.perf_counter()
    predict_run(run, accelerator=task.config.accelerator, dataset=dataset)
    evaluate_run(run.path, None, workers=task.threads, dataset=dataset)
    rest = time.perf_counter() - began
    per_step = cost["seconds_per_step"]
    whole = None if per_step is None else per_step * cost["steps"] + rest
    known = {**cost, "seconds": whole, "scores": sha256(run.path / "scores.csv")}
    write_json(task.record, {"state": "finished", **known})
    return True


def fail(task: Task, message: str, trace: str = "") -> None:
    """Record that a cell failed; the trace of a bug is printed."""
    write_json(task.record, {"state": "failed", "message": message})
    if trace:
        print(trace, flush=True)


def _wait_until_free(run: Run) -> None:
    until = time.monotonic() + _PATIENCE
    while run.path.exists():
        try:
            with locked(run.path):
                return
        except InputError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def cost_of(run: Run, kept: Path, steps: int, seconds: float) -> Mapping[str, Any]:
    """Cost of the training that has just ended, for the record of its cell.

    Args:
        run: its run.
        kept: file that keeps what cannot be measured again, in case that the process is killed before the cell is done.
        steps: steps of this stretch; a run that was continued had others before, and one that was finished has none.
        seconds: how long they took.
    """
    if steps > 0:
        write_json(kept, {"seconds_per_step": seconds / steps, "peak_memory": peak_memory()})
    settings = run.config(), run.plan(), run.split()
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    return {
        "steps": steps_done(run),
        "seconds_per_step": known.get("seconds_per_step"),
        "patches_per_second": _median_rate(run),
        "peak_memory": known.get("peak_memory"),
        "parameters": trained_parameters(*settings),
        "flops_per_step": step_flops(*settings),
    }


def peak_memory() -> int | None:
    """Most bytes that this process has held at once: on the GPU where it used one, else in memory, PyTorch included;
    None where the system does not tell.
    """
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def steps_done(run: Run) -> int:
    """Step of the last checkpoint."""
    return max((int(record.stem.split("_")[1]) for record in run.checkpoints.glob("step_*.json")), default=0)


def _median_rate(run: Run) -> float | None:
    lines = map(json.loads, run.log.read_text(encoding="utf-8").splitlines()) if run.log.is_file() else ()
    rates = [line["patches_per_second"] for line in lines if "patches_per_second" in line]
    return median(rates) if rates else None


def records_of(cells: Sequence[Cell], output: Path) -> dict[str, Record]:
    """The record of every cell by its name."""
    return {cell.name: record_of(task_of(cell, output)) for cell in cells}


def check_same(cells: Sequence[Cell], output: Path, opened: Opened) -> None:
    """Compare what runs in `output` were asked to do with what is asked now.

    Raises:
        InputError: some hold runs with other settings or another split; all differences in one problem.
    """
    found: dict[str, list[str]] = {}
    for cell in cells:
        for change in _changes(cell, output, opened):
            found.setdefault(change, []).append(cell.name)
    if found:
        told = "; ".join(f"{change} in {_listed(names)}" for change, names in found.items())
        raise InputError(
            f"{output}: holds cells that were run with other settings ({told}): restore the settings, or choose "
            "another --output; what is finished is never overwritten"
        )


def _changes(cell: Cell, output: Path, opened: Opened) -> list[str]:
    run = Run(cell.folder(output))
    if not (run.path / "config.yaml").is_file():
        return []
    found = differences(run.config(), cell.config)
    path = cell.config.split
    if not found and path is not None and path.is_file() and opened.split(cell.config).digest != run.split().digest:
        found.append(f"the cases in {path}")
    return found


def differences(was: RunConfig, now: RunConfig) -> list[str]:
    """Settings that differ, in words. Steps that a run has from its epochs are not asked for, nor is the length of an
    epoch where that is not known yet.
    """
    old, new = was.model_dump(mode="json"), now.model_dump(mode="json")
    if new.get("epochs"):
        old["steps"] = new["steps"]
    if new.get("epoch_steps") is None:
        old["epoch_steps"] = None
    return list(_differences(old, new, ""))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str) -> list[str]:
    found = []
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name), new.get(name)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            found += _differences(was, now, f"{prefix}{name}.")
        elif was != now:
            found.append(f"{prefix}{name}: was {was!r}, now {now!r}")
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
