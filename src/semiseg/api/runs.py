"""Training, prediction, scores, comparisons and reports."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from semiseg.api.data import PathLike, absolute, as_path
from semiseg.system.files import write_json

if TYPE_CHECKING:
    from pandas import DataFrame

    from semiseg.comparison.results import Results
    from semiseg.evaluation.scores import Scores
    from semiseg.evaluation.semantic_matching import Matching
    from semiseg.metrics.empty import EmptyRule
    from semiseg.runs.folder import Run
    from semiseg.settings.run import Accelerator
    from semiseg.speed.bench import Bench
    from semiseg.system.cluster import Cluster


def train(
    data: PathLike | None = None,
    output: PathLike | None = None,
    *,
    config: PathLike | None = None,
    assignments: Sequence[str] = (),
    show: bool = True,
    watch: bool = False,
    track: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
    **settings: Any,
) -> Run:
    """Train, or continue a training that was stopped; the same call again does the rest.

    Args:
        data: dataset folder; prepared first where that is not done yet.
        output: run folder; default `runs/<dataset>_<method>_<labels>_s<seed>`.
        config: YAML file with settings, such as the `config.yaml` of a run.
        assignments: settings as the command line's `--set` takes them, `optimiser.lr=0.02`.
        show: progress bar.
        watch: curves in the terminal instead of the bar.
        track: trackers that get the records of the log as well: `mlflow`, `wandb` (offline).
        say: called with each line on how the run differs from the paper whose preset it is based on.
        settings: fields of `RunConfig`, which win over those of the file: `method="dhc"`, `labelled=8`,
            `options={"cross_weight": 0.1}`, `optimiser={"lr": 0.02}`; and `preset="la"`, over which all others win.

    Raises:
        InputError: settings, data or folders are not usable; all problems are named.
    """
    from semiseg.settings.load import load_config
    from semiseg.training.train import train as run

    resolved = load_config(as_path(config), {"data": data, **settings}, assignments)
    target = Path(output) if output else default_output(resolved)
    return run(resolved, target, show=show, watch=watch, track=track, say=say)


def preview(
    data: PathLike | None = None,
    output: PathLike | None = None,
    *,
    count: int = 3,
    config: PathLike | None = None,
    assignments: Sequence[str] = (),
    **settings: Any,
) -> list[Path]:
    """Draw the first batches of a training as its networks would see them, and stop before it; returns the pictures.

    They show the augmented patches with the outlines of their labels, and what the method gives its networks besides:
    masked, mixed or noisy images.

    Args:
        data: dataset folder; prepared first where that is not done yet.
        output: run folder, in which `preview` is written; default as `train` has it. It may hold a run or none.
        count: number of batches, at least 1.
        config: as in `train`.
        assignments: as in `train`.
        settings: as in `train`.

    Raises:
        InputError: settings or data are not usable; all problems are named.
    """
    from semiseg.reports.preview import preview as run
    from semiseg.settings.load import load_config

    resolved = load_config(as_path(config), {"data": data, **settings}, assignments)
    return run(resolved, (Path(output) if output else default_output(resolved)) / "preview", count)


def default_output(config: Any) -> Path:
    """Run folder that names dataset, method, labels and seed."""
    drawn = f"l{config.labelled}" if config.labelled else "all"
    labels = config.split.stem if config.split else drawn
    return Path("runs") / f"{config.data.resolve().name}_{config.method}_{labels}_s{config.seed}"


def predict(
    run: PathLike,
    scans: PathLike | None = None,
    output: PathLike | None = None,
    *,
    overlap: float | None = None,
    largest_component: bool | None = None,
    spacing: tuple[float, float, float] | None = None,
    accelerator: Accelerator = "auto",
    shard: str | None = None,
    cluster: Cluster | None = None,
    overwrite: bool = False,
    done: Callable[[str], None] = lambda case: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Path]:
    """Label scans with a trained run; returns the written file of each case.

    What this run wrote of the same scans is kept, so the same call after one that was stopped does the rest; scans that
    cannot be read are told after the others are labelled.

    Args:
        run: run folder.
        scans: folder of scans (`CASE_0000.nii.gz`, one file per channel, or one file with all channels; any format,
            folders of DICOM series) or one scan; default: the test cases of the run's split.
        output: folder to write; default `predictions` in the run folder (needed when `scans` are given).
        overlap: share that neighbouring windows have in common; default: windows as the run's settings have them.
        largest_component: keep only the largest connected component of each class; default: as the run's settings say.
        spacing: mm along X, Y, Z for scans in formats that record none.
        accelerator: device to use.
        shard: `2/8` labels the second eighth of the scans.
        cluster: do that by jobs, one per shard, and wait for them.
        overwrite: label also the scans that this run has labelled already.
        done: called with the case id after each written scan.
        say: called with each line that should be read, such as on scans whose intensities are unlike those of training.

    Raises:
        InputError: run or scans are not usable.
    """
    from semiseg.prediction.run import predict_run, target_of
    from semiseg.runs.folder import Run
    from semiseg.system.cluster import on_cluster
    from semiseg.system.shards import Shard

    folder, source, target = Run(Path(run)), as_path(scans), as_path(output)
    options: dict[str, Any] = {
        "overlap": overlap,
        "largest_component": largest_component,
        "spacing": spacing,
        "accelerator": accelerator,
        "overwrite": overwrite,
    }
    if cluster is None:
        part = None if shard is None else Shard.parse(shard)
        return predict_run(folder, source, target, **options, shard=part, done=done, say=say)
    written = target_of(folder, source, target)
    call = partial(predict, *absolute(folder.path, source, target), **options)
    found_by = on_cluster(call, cluster, written.absolute() / ".jobs")
    labelled = sorted(case for part in found_by for case in part)
    for case in labelled:
        done(case)
    return {case: written / f"{case}.nii.gz" for case in labelled}


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

    if cluster is not None:
        paths = absolute(predictions, labels, output)
        call = partial(evaluate, *paths, empty=empty, cases=cases, pattern=pattern, workers=workers)
        on_cluster(call, cluster, (paths[2] or paths[0]) / ".jobs")
    source, target = Path(predictions), as_path(output)
    part = None if shard is None else Shard.parse(shard)
    if labels is not None:
        which: dict[str, Any] = {"shard": part, "cases": cases, "pattern": pattern}
        return evaluate_folders(source, Path(labels), target, empty=empty or "diagonal", workers=workers, **which)
    if cases is not None:
        raise InputError("cases: a run is scored on all of its test cases: leave them out, or give its label folder")
    return evaluate_run(source, target, empty=empty, workers=workers, shard=part)


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
    execution = {"workers": workers, "launcher": launcher, "slurm": slurm}
    shown = {"paper": paper, "paper_dataset": paper_dataset}
    asked: dict[str, Any] = {"config": config, "assignments": assignments, **execution, **shown}
    found = comparison(data, output, **asked, say=say, **grid)
    assert found is not None, "only a dry run has no results"
    return found.frame()


def comparison(
    data: PathLike | None,
    output: PathLike | None,
    *,
    config: PathLike | None = None,
    assignments: Sequence[str] = (),
    workers: int = 1,
    launcher: Literal["processes", "slurm", "local"] = "processes",
    slurm: Mapping[str, Any] | None = None,
    paper: bool = False,
    paper_dataset: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    dry: bool = False,
    **grid: Any,
) -> Results | None:
    """`compare` with all that came of it: tables, costs, failures, and whether a signal ended it.

    With `dry` the plan is said, and nothing else is done.
    """
    from semiseg.comparison.compare import Execution, plan
    from semiseg.comparison.compare import compare as run
    from semiseg.comparison.grid import load_grid
    from semiseg.comparison.published import Paper

    asked = load_grid(as_path(config), {"data": data, **grid})
    execution = Execution(workers, launcher, slurm)
    papers = Paper(paper or paper_dataset is not None, paper_dataset)
    if dry:
        say(plan(asked, as_path(output), assignments, execution=execution, paper=papers))
        return None
    return run(asked, as_path(output), assignments, execution=execution, paper=papers, say=say)


def bench(
    data: PathLike | None = None,
    method: str = "mean_teacher",
    *,
    quick: bool = False,
    output: PathLike | None = None,
    assignments: Sequence[str] = (),
    **settings: Any,
) -> Bench:
    """Measure training steps on this machine: data, passes, launches, layouts, and how far the step is from the floor.

    Args:
        data: dataset folder, prepared first where that is not done yet; default: generated scans, with the V-Net and
            batches of the left-atrium papers.
        method: what is trained.
        quick: small patches and few rounds: rough figures in seconds.
        output: JSON file to write.
        assignments: settings as the command line's `--set` takes them, `batch.patch=[96, 96, 96]`.
        settings: fields of `RunConfig`, `precision="fp32"`.

    Raises:
        InputError: settings or data are not usable, or the file cannot be written; all problems are named.
    """
    from semiseg.speed.bench import bench as run

    found = run(as_path(data), method, quick=quick, assignments=assignments, **settings)
    if output is not None:
        write_json(Path(output), found.values())
    return found
