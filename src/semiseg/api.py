"""The commands as Python calls: plain arguments in, typed results out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from semiseg.data.checks import Report
    from semiseg.data.importers.base import Imported
    from semiseg.data.init import Initialised
    from semiseg.data.store import Store
    from semiseg.engine.run import Run
    from semiseg.evaluation.matching import Matching
    from semiseg.evaluation.scores import Scores
    from semiseg.papers import Table
    from semiseg.presets import Preset

PathLike = str | Path


def check(data: PathLike, *, workers: int = 0) -> Report:
    """Open every file of a dataset folder and report all problems at once, each with its remedy.

    `workers` is the number of cases that are open at a time; 0 takes one per core, as far as memory allows.
    """
    from semiseg.data.checks import check as run

    return run(Path(data), workers)


def init_dataset(
    images: PathLike,
    labels: PathLike | None,
    output: PathLike,
    *,
    workers: int = 0,
    show: bool = False,
    **options: Any,
) -> Initialised:
    """Make a dataset folder of two folders of scans, in any readable format and under any names that match.

    NIfTI files are linked, everything else is converted to `.nii.gz`; `dataset.json` is written last, and the same call
    again continues one that was stopped.

    Args:
        images: folder, or pattern such as `SRC/*/t1.nrrd`.
        labels: likewise; may be the folder of the images where names tell labels apart; None takes labels from files
            that hold both, if there are such.
        output: folder to make.
        workers: processes; 0 takes all cores.
        show: progress bar.
        options: fields of `semiseg.data.sources.InitOptions`: `classes=("liver", "kidney")`, `channels=("t1", "t2")`,
            `pattern`, `patients`, `spacing=(0.5, 0.5, 3.0)`, `copy`.

    Raises:
        InputError: files that cannot be assigned or read, or names that do not fit; all problems are named.
    """
    from rich.progress import Progress

    from semiseg.data.init import init_dataset as run
    from semiseg.data.sources import InitOptions

    with Progress(disable=not show) as bar:
        task = bar.add_task("bringing in", total=None)
        return run(
            images,
            labels,
            Path(output),
            InitOptions(**options),
            workers=workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def prepare(
    data: PathLike,
    prepared: PathLike | None = None,
    *,
    workers: int = 0,
    plan: PathLike | None = None,
    preset: str | None = None,
    show: bool = False,
) -> Store:
    """Plan the dataset and write the prepared store; what is there already and still true is kept.

    Args:
        data: dataset folder in nnU-Net's raw layout.
        prepared: folder to write; default `prepared` inside the dataset folder, with a preset one beside it.
        workers: processes; 0 takes all cores.
        plan: an edited plan.json to follow instead of a new one.
        preset: whose decisions the plan takes over, as runs with this preset ask for them.
        show: progress bar.

    Raises:
        InputError: problems of the data, or the folder cannot be written.
    """
    from rich.progress import Progress

    from semiseg.data.prepare import prepare as run
    from semiseg.presets import wishes

    with Progress(disable=not show) as bar:
        task = bar.add_task("preparing", total=None)
        return run(
            Path(data),
            _path(prepared),
            workers=workers,
            plan=_path(plan),
            wishes=wishes(preset),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def import_dataset(
    name: str,
    source: PathLike,
    output: PathLike,
    *,
    options: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    workers: int = 0,
    show: bool = False,
) -> Imported:
    """Write a dataset of the papers, downloaded to `source`, as a dataset folder with the published splits.

    Args:
        name: of the dataset; `semiseg import` lists them.
        source: folder of the download, or of the preprocessed files that are passed around.
        output: folder to write; a killed import goes on where it was.
        options: choices of the dataset's preprocessing; the defaults are the published ones.
        assignments: options as the command line's `--set` takes them, `line=coranet`.
        workers: processes; 0 takes all cores.
        show: progress bar.

    Raises:
        InputError: unknown dataset or option, files that are missing or cannot be read; all problems are named.
    """
    from rich.progress import Progress

    from semiseg.config import assign
    from semiseg.data.importers.run import import_dataset as run

    values = dict(options or {})
    for assignment in assignments:
        assign(values, assignment, "seed=1")
    with Progress(disable=not show) as bar:
        task = bar.add_task("importing", total=None)
        return run(
            name,
            Path(source),
            Path(output),
            values,
            workers=workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def train(
    data: PathLike | None = None,
    output: PathLike | None = None,
    *,
    config: PathLike | None = None,
    assignments: Sequence[str] = (),
    show: bool = False,
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
    from semiseg.config import load_config
    from semiseg.engine.train import train as run
    from semiseg.presets import differences

    resolved = load_config(_path(config), {"data": data, **settings}, assignments)
    for line in differences(resolved):
        say(line)
    target = Path(output) if output else default_output(resolved)
    return run(resolved, target, show=show, watch=watch, track=track)


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
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    done: Any = lambda case: None,
) -> dict[str, Path]:
    """Label scans with a trained run; returns the written file of each case.

    Args:
        run: run folder.
        scans: folder of scans (`CASE_0000.nii.gz`, one file per channel, or one file with all channels; any format,
            folders of DICOM series) or one scan; default: the test cases of the run's split.
        output: folder to write; default `predictions` in the run folder (needed when `scans` are given).
        overlap: share that neighbouring windows have in common; default: windows as the run's settings have them.
        largest_component: keep only the largest connected component of each class; default: as the run's settings say.
        spacing: mm along X, Y, Z for scans in formats that record none.
        accelerator: device to use.
        done: called with the case id after each written scan.

    Raises:
        InputError: run or scans are not usable.
    """
    from semiseg.engine.run import Run
    from semiseg.errors import InputError
    from semiseg.inference.predict import find_scans, load_predictor, predict_scans, test_scans

    folder = Run(Path(run))
    if scans is not None and output is None:
        raise InputError("predict needs a folder for the predictions of the given scans: add -o OUT")
    config = folder.config()
    window = None if overlap is None else config.window.model_copy(update={"overlap": overlap, "stride": None})
    predictor = load_predictor(folder, accelerator=accelerator, window=window)
    found = test_scans(folder) if scans is None else find_scans(Path(scans), len(predictor.plan.channels), spacing)
    target = folder.predictions if output is None else Path(output)
    largest = config.largest_component if largest_component is None else largest_component
    return predict_scans(predictor, found, target, largest=largest, done=done)


def evaluate(
    predictions: PathLike,
    labels: PathLike | None = None,
    output: PathLike | None = None,
    *,
    empty: Literal["official", "nan", "diagonal", "dhc"] | None = None,
    workers: int = 0,
) -> Scores:
    """Score predicted label files against reference labels, per class and case.

    Args:
        predictions: folder of predicted label files, or a run folder (then its test cases are scored, and the
            opening of the test labels is counted in the run).
        labels: folder of reference label files; not needed for a run folder.
        output: folder for `scores.csv` and `scores.json`; default: beside the predictions.
        empty: distances where a mask is empty: `official` (0, as the papers' code), `nan`, the volume `diagonal`, or
            `dhc` (128 voxels, as DHC's code for AMOS and Synapse); default: as the run's settings say, `diagonal` for
            folders.
        workers: cases at a time; 0 takes one per core.

    Raises:
        InputError: files are missing or do not fit together; all problems are named.
    """
    from semiseg.evaluation.runs import evaluate_folders, evaluate_run

    source = Path(predictions)
    if labels is None:
        return evaluate_run(source, _path(output), empty=empty, workers=workers)
    return evaluate_folders(source, Path(labels), _path(output), empty=empty or "diagonal", workers=workers)


def report(*runs: PathLike, output: PathLike | None = None) -> Path:
    """Write one HTML file about runs, side by side, that needs no network; returns its path.

    Args:
        runs: run folders, trained and, where scores and pictures are wanted, predicted and evaluated.
        output: file to write; default: `report.html` in the run folder, or here when there are several.

    Raises:
        InputError: a run cannot be read, or the file cannot be written; all problems are named.
    """
    from semiseg.evaluation.report.build import write_report

    return write_report([Path(run) for run in runs], _path(output))


def matching(
    run: PathLike,
    output: PathLike | None = None,
    *,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    done: Any = lambda case: None,
) -> Matching:
    """How well the features of each class match between a run's labelled and unlabelled scans: Q of DuCiSC.

    No label is read but those that the run was trained with; classes of unlabelled scans are predicted.

    Args:
        run: run folder of a finished training, of any method.
        output: folder for `matching.csv` and `matching.json`; default: the run folder.
        accelerator: device to use.
        done: called with the case id after each scan.

    Raises:
        InputError: no run folder, the training has not ended, or the run has no unlabelled cases.
    """
    from semiseg.evaluation.matching import match_run

    return match_run(Path(run), _path(output), accelerator=accelerator, done=done)


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
) -> Any:
    """Train a grid of methods, label budgets and seeds, each beside its supervised control and the bound of all labels.

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
            `seeds=3`, `steps=2000`.

    Returns:
        A row per method, budget, class and metric: mean, spread, interval, test against the control, label budget,
        protocol, time. A pandas DataFrame if pandas is installed, else a list of dictionaries.

    Raises:
        InputError: settings or data are not usable; finished cells have other settings; all problems are named.
    """
    from semiseg.comparison.beside import Paper
    from semiseg.comparison.compare import How
    from semiseg.comparison.compare import compare as run
    from semiseg.comparison.grid import default_output, load_grid
    from semiseg.comparison.results import as_frame

    asked = load_grid(_path(config), {"data": data, **grid})
    folder = Path(output) if output else default_output(asked)
    found = run(
        asked,
        folder.absolute(),
        assignments,
        how=How(workers, launcher, slurm),
        paper=Paper(paper or paper_dataset is not None, paper_dataset),
        say=say,
    )
    return as_frame(found.rows())


@dataclass(frozen=True)
class MethodInfo:
    """A method as `semiseg methods` shows it.

    Attributes:
        options: type, default and description of each option.
        tables: ablations of its paper, each row with the settings that replay it.
    """

    name: str
    title: str
    paper: str
    idea: str
    options: Mapping[str, tuple[str, Any, str]]
    tables: Sequence[Table] = ()


def list_methods() -> Sequence[MethodInfo]:
    """All methods with papers, ideas, options, and the rows of their papers' ablations as settings."""
    from semiseg.methods.base import registry
    from semiseg.methods.describe import describe

    return [describe(item) for item in registry().values()]


def list_presets() -> Sequence[Preset]:
    """The papers' settings, one preset per dataset."""
    from semiseg.presets import names, preset

    return [preset(name) for name in names()]


def demo(output: PathLike = "demo", *, seeds: Sequence[int] = (0,), show: bool = True) -> Mapping[str, Any]:
    """Generate a small cohort, train the supervised control and MICD on it, and compare them; returns the summary."""
    from semiseg.demonstration import demo as run

    return run(Path(output), seeds=seeds, show=show)


def _path(value: PathLike | None) -> Path | None:
    return None if value is None else Path(value)
