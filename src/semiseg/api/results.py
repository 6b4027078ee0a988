"""Scores, comparisons and reports."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from semiseg.api.paths import PathLike, as_path

if TYPE_CHECKING:
    from pandas import DataFrame

    from semiseg.evaluation.scores import Scores
    from semiseg.evaluation.semantic_matching import Matching
    from semiseg.metrics.empty import EmptyRule
    from semiseg.settings.run import Accelerator
    from semiseg.system.cluster import Cluster


@overload
def evaluate(
    predictions: PathLike,
    labels: PathLike | None = None,
    output: PathLike | None = None,
    *,
    empty: EmptyRule | None = None,
    cases: Collection[str] | None = None,
    pattern: str | None = None,
    workers: int = 0,
    cluster: Cluster | None = None,
) -> Scores: ...


@overload
def evaluate(
    predictions: PathLike,
    labels: PathLike | None = None,
    output: PathLike | None = None,
    *,
    empty: EmptyRule | None = None,
    cases: Collection[str] | None = None,
    pattern: str | None = None,
    workers: int = 0,
    shard: str,
) -> None: ...


def evaluate(
    predictions: PathLike,
    labels: PathLike | None = None,
    output: PathLike | None = None,
    *,
    empty: EmptyRule | None = None,
    cases: Collection[str] | None = None,
    pattern: str | None = None,
    workers: int = 0,
    shard: str | None = None,
    cluster: Cluster | None = None,
) -> Scores | None:
    """Score predicted label files against reference labels, per class and case.

    Args:
        predictions: folder of predicted label files, one such file, or a run folder (then its test cases are scored,
            and the opening of the test labels is counted in the run).
        labels: folder of reference label files, or one file; not needed for a run folder.
        output: folder for `scores.csv` and `scores.json`; default: beside the predictions.
        empty: distances where a mask is empty: `official` (0, as the papers' code), `nan`, the volume `diagonal`, or
            `dhc` (128 voxels, as DHC's code for AMOS and Synapse); default: as the run's settings say, `diagonal` for
            folders.
        cases: score only these cases of a folder; a run is scored on all of its test cases.
        pattern: regular expression whose first group is the case, where names of predictions and labels differ more
            than `semiseg init` could match.
        workers: cases at a time; 0 takes one per core.
        shard: `2/8` scores the second eighth of the cases and leaves them in `output` for the call without a shard,
            which computes what is missing, and alone gives scores.
        cluster: do that by jobs, one per shard, wait for them, and then score.

    Raises:
        InputError: files are missing or do not fit together; all problems are named.
    """
    from semiseg.errors import InputError
    from semiseg.evaluation.runs import evaluate_folders, evaluate_run
    from semiseg.system.cluster import on_cluster
    from semiseg.system.shards import Shard

    source = Path(predictions).absolute()
    paths = source, as_path(labels), as_path(output)
    if cluster is not None:
        others = [None if path is None else path.absolute() for path in paths[1:]]
        call = partial(evaluate, source, *others, empty=empty, cases=cases, pattern=pattern, workers=workers)
        on_cluster(call, cluster, (others[1] or source) / ".jobs")
    part = None if shard is None else Shard.parse(shard)
    if paths[1] is None:
        if cases is not None:
            raise InputError(
                "cases: a run is scored on all of its test cases: leave them out, or give its label folder"
            )
        return evaluate_run(Path(predictions), paths[2], empty=empty, workers=workers, shard=part)
    which: dict[str, Any] = {"shard": part, "cases": cases, "pattern": pattern}
    return evaluate_folders(Path(predictions), paths[1], paths[2], empty=empty or "diagonal", workers=workers, **which)


def report(*runs: PathLike, output: PathLike | None = None) -> Path:
    """Write one HTML file about runs, side by side, that needs no network; returns its path.

    Args:
        runs: run folders, trained and, where scores and pictures are wanted, predicted and evaluated.
        output: file to write; default: `report.html` in the run folder, or here when there are several.

    Raises:
        InputError: a run cannot be read, or the file cannot be written; all problems are named.
    """
    from semiseg.reports.build import write_report

    return write_report([Path(run) for run in runs], as_path(output))


def matching(
    run: PathLike,
    output: PathLike | None = None,
    *,
    accelerator: Accelerator = "auto",
    done: Any = lambda case: None,
) -> Matching:
    """How well the features of each class match between a run's labelled and unlabelled scans: Q of DuCiSC.

    No label is read but those that the run was trained with; classes of unlabelled scans are predicted.

    Args:
        run: run folder of a finished training, of any method.
        output: folder for `matching.csv`, `matching.json`, `features.csv` and `features.png`; default: the run folder.
        accelerator: device to use.
        done: called with the case id after each scan.

    Raises:
        InputError: no run folder, the training has not ended, or the run has no unlabelled cases.
    """
    from semiseg.evaluation.semantic_matching import match_run

    return match_run(Path(run), as_path(output), accelerator=accelerator, done=done)


def compare(
    data: PathLike | None = None,
    output: PathLike | None = None,
    *,
    config: PathLike | None = None,
    assignments: Sequence[str] = (),
    workers: int = 1,
    launcher: Literal["processes", "slurm", "local"] = "processes",
    slurm: Mapping[str, Any] | None = None,
    paper: bool = False,
    paper_dataset: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    **grid: Any,
) -> DataFrame:
    """Train a grid of methods, label budgets and seeds, each beside supervised controls and the bound of all labels.

    Killed or stopped, the same call goes on where it was; what is finished is not done again. A failed cell does not
    stop the others. Scores, statistics and tables are files in `output`.

    Args:
        data: dataset folder.
        output: folder of the comparison; default `comparisons/<dataset>`.
        config: YAML file with the grid, `semiseg.comparison.grid.Grid`.
        assignments: settings of every cell as the command line's `--set` takes them, `optimiser.lr=0.02`.
        workers: cells at once, in processes that share the cores and GPUs.
        launcher: `processes`, jobs of a `slurm` cluster, or the same jobs on this machine (`local`).
        slurm: parameters of the jobs, for submitit.
        paper: put the papers' printed figures beside ours.
        paper_dataset: which dataset that is, where its name does not tell.
        say: called with a line on each cell that ends.
        grid: fields of `Grid`, which win over those of the file: `methods=["micd", "ducisc"]`, `labelled=[4, 8]`,
            `seeds=3`, `steps=2000`, `controls="plain"`, `paired_test="t-one-sided"`.

    Returns:
        A row per method, budget, class and metric: mean, spread, interval, test against the control, label budget,
        protocol, time.

    Raises:
        InputError: settings or data are not usable; finished cells have other settings; all problems are named.
    """
    from semiseg.comparison.compare import How
    from semiseg.comparison.compare import compare as run
    from semiseg.comparison.grid import default_output, load_grid
    from semiseg.comparison.published import Paper

    asked = load_grid(as_path(config), {"data": data, **grid})
    folder = Path(output) if output else default_output(asked)
    found = run(
        asked,
        folder.absolute(),
        assignments,
        how=How(workers, launcher, slurm),
        paper=Paper(paper or paper_dataset is not None, paper_dataset),
        say=say,
    )
    return found.frame()
