"""Cells as jobs of a SLURM cluster, by submitit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from semiseg.comparison.work import Task, work
from semiseg.system.cluster import executor
from semiseg.system.parallel import secluded
from semiseg.training.train import interrupts

_POLL = 1.0


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
    from semiseg.comparison.work import fail

    error = job.exception()
    if error is not None:
        fail(task, f"job {job.job_id}: {str(error).strip().splitlines()[-1]}")
