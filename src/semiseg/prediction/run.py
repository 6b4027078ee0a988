"""Label scans with the run in a folder: what is opened, where it is written, and with which of the run's settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from semiseg.datasets.dataset import Dataset
from semiseg.errors import InputError
from semiseg.prediction.predict import load_predictor, predict_scans
from semiseg.prediction.scans import Spacing, find_scans, test_scans
from semiseg.runs.build import Build
from semiseg.runs.folder import Run
from semiseg.settings.run import Accelerator
from semiseg.system.files import refuse_links
from semiseg.system.shards import Shard


def target_of(run: Run, scans: Path | None, output: Path | None) -> Path:
    """The folder for predictions.

    Raises:
        InputError: none was given for scans that are not the run's own, or the run's own is a link.
    """
    if output is not None:
        return output
    if scans is not None:
        raise InputError("predict needs a folder for the predictions of the given scans: add -o OUT")
    refuse_links(run.path, run.predictions.name, remedy="remove the link, or choose a folder with -o OUT")
    return run.predictions


def predict_run(
    run: Run,
    scans: Path | None = None,
    output: Path | None = None,
    *,
    overlap: float | None = None,
    largest_component: bool | None = None,
    spacing: Spacing | None = None,
    accelerator: Accelerator = "auto",
    shard: Shard | None = None,
    overwrite: bool = False,
    done: Callable[[str], None] = lambda case: None,
    say: Callable[[str], None] = lambda line: None,
    dataset: Dataset | None = None,
) -> dict[str, Path]:
    """Label scans, by default the test cases of the run; arguments as of `semiseg.predict`, and the run's dataset where
    that is open already.

    Raises:
        InputError: run or scans are not usable.
    """
    target, config = target_of(run, scans, output), run.config()
    build = Build(config, run.plan())
    if scans is not None and scans.is_dir() and target.resolve() == scans.resolve():
        raise InputError(
            f"{target}: holds the scans, and predictions would pass for some: choose another folder with -o"
        )
    window = None if overlap is None else config.window.model_copy(update={"overlap": overlap, "stride": None})
    predictor = load_predictor(run, accelerator=accelerator, window=window, build=build)
    found = test_scans(run, build, dataset) if scans is None else find_scans(scans, len(build.plan.channels), spacing)
    largest = config.largest_component if largest_component is None else largest_component
    return predict_scans(
        predictor, found, target, largest=largest, shard=shard, overwrite=overwrite, done=done, say=say
    )
