"""Training and prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiseg.api.paths import PathLike, as_path

if TYPE_CHECKING:
    from semiseg.runs.folder import Run
    from semiseg.settings.run import Accelerator
    from semiseg.system.cluster import Cluster


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
    from semiseg.settings.presets import differences
    from semiseg.settings.run import load_config
    from semiseg.training.train import train as run

    resolved = load_config(as_path(config), {"data": data, **settings}, assignments)
    for line in differences(resolved):
        say(line)
    target = Path(output) if output else default_output(resolved)
    return run(resolved, target, show=show, watch=watch, track=track)


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
    from semiseg.settings.run import load_config

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
    paths: list[Any] = [None if path is None else path.absolute() for path in (folder.path, source, target)]
    found_by = on_cluster(partial(predict, *paths, **options), cluster, written.absolute() / ".jobs")
    labelled = sorted(case for part in found_by for case in part)
    for case in labelled:
        done(case)
    return {case: written / f"{case}.nii.gz" for case in labelled}
