"""Cells in processes of their own, several at a time, or as jobs of a SLURM cluster, by submitit."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import connection, get_all_start_methods, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from semiseg.comparison.work import Task, fail, note_death, work
from semiseg.system.cluster import executor
from semiseg.system.parallel import end_with_parent, secluded
from semiseg.training.train import interrupts

STOPPED = 75
"""Exit status of a process that a signal stopped before its cell was done."""
_POLL = 1.0
_GRACE = 60.0
"""Seconds that a training has for its checkpoint after a signal."""


def run_here(tasks: Sequence[Task], workers: int, done: Callable[[Task], None]) -> bool:
    """Work on `tasks`, `workers` at a time, one process each; False when a signal ended it.

    Where there are several GPUs, processes take turns on them. `done` is called after each task, whatever came of it.
    """
    if (how := _start_method()) == "forkserver":
        get_context(how).set_forkserver_preload(["semiseg.comparison.work", "semiseg.training.train"])
    waiting = list(tasks)
    busy: dict[int, tuple[BaseProcess, Task]] = {}
    devices = visible_devices() if workers > 1 else []
    with interrupts() as stop:
        while (waiting and not stop) or busy:
            for slot in range(workers):
                if slot not in busy and waiting and not stop:
                    task = waiting.pop(0)
                    busy[slot] = _start(task, _device(devices, slot)), task
            if stop:
                _stop([process for process, _ in busy.values()])
            connection.wait([process.sentinel for process, _ in busy.values()], timeout=0.2)
            for slot in [slot for slot, (process, _) in busy.items() if not process.is_alive()]:
                process, task = busy.pop(slot)
                _note_end(process, task, stopped=bool(stop))
                done(task)
    return not stop


def _start_method() -> str:
    """From a server that has imported everything, where the system can fork (Windows cannot)."""
    return "forkserver" if "forkserver" in get_all_start_methods() else "spawn"


def _start(task: Task, device: str | None) -> BaseProcess:
    context: Any = get_context(_start_method())
    process: BaseProcess = context.Process(target=_in_process, args=(task, device))
    with secluded():
        process.start()
    return process


def _note_end(process: BaseProcess, task: Task, *, stopped: bool) -> None:
    process.join()
    if process.exitcode not in (0, STOPPED) and not stopped:
        note_death(task, process.exitcode or 0)


def visible_devices() -> list[str]:
    """GPUs that CUDA shows to this process, as `CUDA_VISIBLE_DEVICES` names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]


def _device(devices: Sequence[str], slot: int) -> str | None:
    return devices[slot % len(devices)] if len(devices) > 1 else None


def _stop(processes: Sequence[BaseProcess]) -> None:
    """Let trainings write their checkpoints, and end what does not end by itself."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_GRACE)
        if process.is_alive():
            process.kill()
            process.join()


def _in_process(task: Task, device: str | None) -> None:
    end_with_parent()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    _write_to(task.record.with_suffix(".log"))
    if not work(task):
        sys.exit(STOPPED)


def _write_to(log: Path) -> None:
    """Let everything that the process prints go to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


def run_jobs(
    tasks: Sequence[Task],
    workers: int,
    done: Callable[[Task], None],
    *,
    folder: Path,
    cluster: str = "slurm",
    parameters: Mapping[str, Any],
) -> bool:
    """Submit every task as a job, at most `workers` running at once, and wait for all; False when a signal ended it.

    Jobs go on when the waiting ends; the same comparison started again takes over what they have finished.

    Args:
        tasks: cells.
        workers: jobs at once.
        done: called after each task, whatever came of it.
        folder: for the scripts and logs of the jobs; the cluster's machines must see it.
        cluster: `slurm`, or `local` for jobs on this machine.
        parameters: of submitit, such as `timeout_min`, `gpus_per_node`, `slurm_partition`.

    Raises:
        InputError: submitit is not installed, there is no such cluster, or a parameter is unknown.
    """
    limit = {"slurm_array_parallelism": workers} if cluster == "slurm" else {}
    submitting = executor(cluster, folder, {**limit, **parameters})
    with secluded():
        jobs = dict(zip(submitting.map_array(work, list(tasks)), tasks, strict=True)) if tasks else {}
    with interrupts() as stop:
        while jobs and not stop:
            for job in [job for job in jobs if job.done()]:
                _note(job, jobs[job])
                done(jobs.pop(job))
            time.sleep(min(_POLL, 0.1) if cluster == "local" else _POLL)
    return not stop


def _note(job: Any, task: Task) -> None:
    """Record a job that ended without a word of its own: killed, out of time or never started."""
    error = job.exception()
    if error is not None:
        fail(task, f"job {job.job_id}: {str(error).strip().splitlines()[-1]}")
