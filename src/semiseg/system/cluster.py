"""The same work as jobs of a SLURM cluster, by submitit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from semiseg.errors import InputError, did_you_mean, raise_all
from semiseg.system.parallel import secluded
from semiseg.system.shards import Shard

R = TypeVar("R")

_LAUNCHERS = ("slurm", "local")


@dataclass(frozen=True)
class Cluster:
    """Where shards run, and into how many jobs the work is split.

    Attributes:
        launcher: `slurm`, or `local` for the same jobs on this machine.
        jobs: number of shards.
        parameters: of submitit, such as `timeout_min`, `gpus_per_node`, `slurm_partition`.

    Raises:
        InputError: there is no such launcher, or no job.
    """

    launcher: Literal["slurm", "local"] = "slurm"
    jobs: int = 4
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.launcher not in _LAUNCHERS:
            raise InputError(f"--launcher: {self.launcher!r} is none: {did_you_mean(self.launcher, _LAUNCHERS)}")
        if self.jobs < 1:
            raise InputError(f"--jobs: expected at least one job, came {self.jobs}")


def executor(cluster: str, folder: Path, parameters: Mapping[str, Any]) -> Any:
    """What submits jobs; their scripts and logs are kept in `folder`, which the cluster's machines must see.

    Raises:
        InputError: submitit is not installed, there is no such cluster, or a parameter is unknown.
    """
    try:
        import submitit
    except ImportError:
        raise InputError("--launcher slurm needs submitit: pip install 'semiseg[slurm]'") from None
    try:
        made = submitit.AutoExecutor(folder=folder, cluster=cluster)
        made.update_parameters(**{"name": "semiseg", **parameters})
    except (RuntimeError, NameError, ValueError, TypeError) as error:
        raise InputError(f"--launcher slurm: submitit says: {' '.join(str(error).split())}") from None
    return made


def on_cluster(call: Callable[..., R], cluster: Cluster, folder: Path) -> list[R]:
    """`call(shard="i/n")` for every shard, each as a job; waits for all, and gives what they gave.

    Jobs go on when the waiting ends.

    Args:
        call: importable, with arguments that can be pickled, `functools.partial` included.
        cluster: where and how many.
        folder: for scripts and logs of the jobs.

    Raises:
        InputError: the jobs cannot be submitted, or problems that jobs found; a job that died is one.
    """
    shards = [str(Shard(index, cluster.jobs)) for index in range(1, cluster.jobs + 1)]
    with secluded():
        jobs = executor(cluster.launcher, folder, cluster.parameters).map_array(partial(_told, call), shards)
    answers = [_answer(job, shard) for job, shard in zip(jobs, shards, strict=True)]
    raise_all(dict.fromkeys(problem for _, problems in answers for problem in problems))
    return [found[0] for found, _ in answers]


def parameters(words: Sequence[str]) -> dict[str, Any]:
    """Parameters of jobs as the command line's `--slurm` takes them, `timeout_min=60`.

    Raises:
        InputError: a word is no NAME=VALUE.
    """
    found = {}
    for text in words:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--slurm {text}: expected NAME=VALUE, such as timeout_min=600")
        found[name] = yaml.safe_load(value)
    return found


def _told(call: Callable[..., R], shard: str) -> tuple[list[R], tuple[str, ...]]:
    """The answer, or the problems of the input, which need no traceback in the job's log."""
    try:
        return [call(shard=shard)], ()
    except InputError as error:
        return [], error.problems


def _answer(job: Any, shard: str) -> tuple[list[Any], tuple[str, ...]]:
    error = job.exception()
    if error is not None:
        last = str(error).strip().splitlines()[-1]
        return [], (f"shard {shard}, job {job.job_id} ended without a result ({last}): see {job.paths.stderr}",)
    found: tuple[list[Any], tuple[str, ...]] = job.result()
    return found
