"""`semiseg compare`: plan, run what is left, and write what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from semiseg.comparison.cells import Cell, cells_of
from semiseg.comparison.dry_run import plan_text
from semiseg.comparison.epochs import place_of, with_epochs
from semiseg.comparison.grid import Grid
from semiseg.comparison.launch import run_here, run_jobs
from semiseg.comparison.opened import Opened
from semiseg.comparison.outcomes import gather
from semiseg.comparison.paper_tables import choices
from semiseg.comparison.published import Paper, check_known, printed
from semiseg.comparison.results import Results, results_of
from semiseg.comparison.splits import with_splits, write_splits
from semiseg.comparison.work import Record, Task, check_same, record_of, records_of, task_of
from semiseg.errors import InputError, did_you_mean, raise_all
from semiseg.system.files import sweep, write_text
from semiseg.system.locks import locked
from semiseg.system.parallel import worker_count

Launcher = Literal["processes", "slurm", "local"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Execution:
    """How the cells of a grid are worked on; it decides nothing about the numbers.

    Attributes:
        workers: cells at once.
        launcher: `processes` of this machine, jobs of a `slurm` cluster, or the same jobs on this machine (`local`).
        slurm: parameters for submitit.

    Raises:
        InputError: there is no such launcher.
    """

    workers: int = 1
    launcher: Launcher = "processes"
    slurm: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        known = get_args(Launcher)
        if self.launcher not in known:
            raise InputError(f"--launcher: {self.launcher!r} is none: {did_you_mean(self.launcher, known)}")


def plan(
    grid: Grid,
    output: Path | None,
    assignments: Sequence[str] = (),
    *,
    execution: Execution = Execution(),
    paper: Paper = Paper(),
) -> str:
    """The complete plan as text; nothing is prepared, trained or written. Arguments as of `compare`.

    Raises:
        InputError: all that is wrong with the settings of any cell, or finished cells have other settings.
    """
    output, opened = _folder(grid, output), Opened()
    drafts = cells_of(grid, assignments, opened)
    there = grid.data is not None and grid.data.is_dir()
    cells = with_epochs(with_splits(drafts, output, opened) if there else drafts, opened=opened)
    check_same(cells, output, opened)
    lines = list(map(str, choices(grid)))
    beside: Mapping[str, Sequence[str]] = {}
    if paper.shown:
        check_known(cells, paper.dataset)
        beside, legend = printed(cells, grid.tables, paper.dataset)
        lines += legend
    return "\n".join([plan_text(cells, records_of(cells, output), output, execution.workers, beside), *lines])


def compare(
    grid: Grid,
    output: Path | None,
    assignments: Sequence[str] = (),
    *,
    execution: Execution = Execution(),
    paper: Paper = Paper(),
    say: Say = lambda line: None,
) -> Results:
    """Run the cells of `grid` that are not finished, and write files and tables of all of them into `output`.

    By default that is `comparisons/<dataset>`.

    A cell that fails does not stop the others, stands as failed in the tables, and is tried again the next time. A
    signal ends it after the running steps; the same call goes on where it was.

    Raises:
        InputError: all that is wrong with the settings of any cell; problems of the data; finished cells have other
            settings; another process works in `output`.
    """
    raise_all(_problems(grid, execution))
    output, opened = _folder(grid, output), Opened()
    drafts = cells_of(grid, assignments, opened)
    _check_data(grid)
    cells = with_epochs(with_splits(drafts, output, opened), opened=opened)
    if paper.shown:
        check_known(cells, paper.dataset)
    check_same(cells, output, opened)
    with locked(output):
        places = {place_of(cell): cell.config for cell in cells}
        plans = {place: opened.store(config).plan for place, config in places.items()}
        write_splits(cells, drafts, output, opened)
        cells = with_epochs(with_splits(drafts, output, opened), plans, opened)
        check_same(cells, output, opened)
        write_text(output / "grid.yaml", _yaml(grid, assignments))
        for choice in choices(grid):
            say(str(choice))
        complete = _run(cells, output, execution, say)
        if complete:
            sweep(output, below=True)  # cells of a killed comparison outlive it for a moment
        outcomes = gather(cells, records_of(cells, output), output)
        results = results_of(outcomes, output, complete, paper, grid.paired_test)
        results.write()
    return results


def _folder(grid: Grid, output: Path | None) -> Path:
    return (output or Path("comparisons") / (grid.data.resolve().name if grid.data else "plan")).absolute()


def _problems(grid: Grid, execution: Execution) -> list[str]:
    problems = [] if grid.data else ["compare: give the dataset folder (without one, only --dry-run works)"]
    if execution.workers < 1:
        problems.append(f"compare: --workers: expected 1 or more, came {execution.workers}")
    if execution.slurm and execution.launcher == "processes":
        problems.append("compare: --slurm sets parameters of jobs: add --launcher slurm")
    return problems


def _check_data(grid: Grid) -> None:
    if grid.data is not None and not grid.data.is_dir():
        raise InputError(f"{grid.data}: expected a dataset folder, found none")


def _run(cells: Sequence[Cell], output: Path, execution: Execution, say: Say) -> bool:
    """Work on what is not finished; False when a signal ended it."""
    threads = max(1, worker_count(0, 1 << 16, 1) // execution.workers) if execution.workers > 1 else 0
    waiting = [task for cell in cells if record_of(task := task_of(cell, output, threads)).state != "finished"]
    say(f"{len(cells)} cells, {len(cells) - len(waiting)} of them finished before")
    told = _Teller(len(waiting), say)
    if execution.launcher == "processes":
        return run_here(waiting, execution.workers, told)
    jobs: dict[str, Any] = {
        "folder": output / "jobs",
        "cluster": execution.launcher,
        "parameters": execution.slurm or {},
    }
    return run_jobs(waiting, execution.workers, told, **jobs)


class _Teller:
    """Says how each cell went."""

    def __init__(self, total: int, say: Say) -> None:
        self._done, self._total, self._say = 0, total, say

    def __call__(self, task: Task) -> None:
        self._done += 1
        found: Record = record_of(task)
        detail = f": {found.message}" if found.message else f", {found.seconds:.0f} s" if found.seconds else ""
        self._say(f"{self._done}/{self._total} {task.folder.name}: {found.state}{detail}")


def _yaml(grid: Grid, assignments: Sequence[str]) -> str:
    import yaml

    values = grid.model_dump(mode="json")
    note = f"# with --set {' --set '.join(assignments)}\n" if assignments else ""
    return note + yaml.safe_dump(values, sort_keys=False)
