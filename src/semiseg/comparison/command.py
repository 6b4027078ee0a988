"""What the command line does with its words: grid, launch, and what is printed at the end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semiseg.comparison.compare import How, compare, plan
from semiseg.comparison.grid import default_output, load_grid
from semiseg.comparison.published import Paper
from semiseg.comparison.results import Results
from semiseg.comparison.tables import document
from semiseg.errors import InputError, did_you_mean
from semiseg.system.cluster import parameters

_LAUNCHERS = ("processes", "slurm", "local")


@dataclass(frozen=True)
class Asked:
    """The options of `semiseg compare`; `grid` holds the fields of a `Grid` that were given."""

    grid: Mapping[str, Any]
    config: Path | None
    output: Path | None
    assignments: Sequence[str]
    workers: int
    launcher: str
    slurm: Sequence[str]
    paper: bool
    paper_dataset: str | None


def run(asked: Asked, *, dry: bool, say: Callable[[str], None]) -> int:
    """Plan or compare; the exit status: 1 where cells failed, 0 otherwise, also when a signal stopped it.

    Raises:
        InputError: what was asked for is not usable.
    """
    grid = load_grid(asked.config, asked.grid)
    output = (asked.output or default_output(grid)).absolute()
    how = _how(asked)
    if dry:
        say(plan(grid, output, asked.assignments, workers=how.workers))
        return 0
    paper = Paper(asked.paper or asked.paper_dataset is not None, asked.paper_dataset)
    results = compare(grid, output, asked.assignments, how=how, paper=paper, say=say)
    if not results.complete:
        say(f"Stopped. Continue with the same command: {shlex.join(['semiseg', *sys.argv[1:]])}")
        return 0
    say("\n" + summary(results))
    return 1 if results.failures else 0


def summary(results: Results) -> str:
    """The tables, what failed, and where the files are."""
    tables = document(table for table in [*results.tables, *results.costs] if not table.detail)
    failed = [f"failed: {failure}" for failure in results.failures]
    return "\n".join([tables, *failed, f"Tables and scores: {results.output}/table.md, .tex, .csv, costs.*, cases.csv"])


def _how(asked: Asked) -> How:
    if asked.launcher not in _LAUNCHERS:
        raise InputError(f"--launcher: {asked.launcher!r} is none: {did_you_mean(asked.launcher, _LAUNCHERS)}")
    return How(asked.workers, asked.launcher, parameters(asked.slurm))  # type: ignore[arg-type]
