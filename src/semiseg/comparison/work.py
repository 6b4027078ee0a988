"""One cell, from training to scores, and the record of how it went."""

from __future__ import annotations

import json
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from semiseg.comparison.cells import Cell
from semiseg.comparison.cost import cost_of, steps_done
from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from semiseg.runs.folder import Run
from semiseg.settings.run import RunConfig
from semiseg.system.files import sha256, write_json
from semiseg.system.locks import locked
from semiseg.system.memory import reuse_freed_memory

State = Literal["finished", "failed", "open"]
_PATIENCE = 60.0
"""Seconds to wait for a process of a killed comparison to let go of a run folder."""


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
        peak_memory: most bytes that this stretch of training held, see `cost.peak_memory`.
        scores: checksum of the scores.
        parameters, flops_per_step: see `operations`.
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
