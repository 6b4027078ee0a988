"""Trackers that a team may have beside the log: each is a `Logger` that gets the same records.

A tracker never decides over a training: one that is not installed is refused before any work, one that fails later is
named once and then left alone.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from semiseg.errors import InputError, did_you_mean, raise_all
from semiseg.runs.folder import Run
from semiseg.runs.logging import Logger, flat
from semiseg.settings.run import RunConfig
from semiseg.system.files import write_json

_FILE = "trackers.json"
"""Under which ids trackers know the run, so that a continued run is continued there as well."""


class MLflow:
    """Parameters and metrics of a run in MLflow.

    They go to the server or file that the environment variable MLFLOW_TRACKING_URI names, else to a SQLite file
    `mlflow.db` beside the run folder.
    """

    def __init__(self, run: Run, config: RunConfig, logged: int) -> None:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.path.resolve().parent / 'mlflow.db'}"
        self._client = MlflowClient(tracking_uri=uri)
        self._metric, self._run = Metric, run
        known = _ids(run).get("mlflow")
        self._after = logged if known else 0
        self._id = known or self._create(config.data.name)
        self._client.update_run(self._id, status="RUNNING")
        params = [Param(name[:250], value[:500]) for name, value in _parameters(config)]
        for first in range(0, len(params), 100):
            self._client.log_batch(self._id, params=params[first : first + 100])
        self._client.log_batch(self._id, tags=[RunTag("run_folder", str(run.path.resolve()))])

    def _create(self, experiment: str) -> str:
        found = self._client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else self._client.create_experiment(experiment)
        created: str = self._client.create_run(number, run_name=self._run.path.name).info.run_id
        _remember(self._run, "mlflow", created)
        return created

    def write(self, record: Mapping[str, Any]) -> None:
        """Send the numbers of one record; those that were sent before a resume are not sent twice."""
        if record["step"] <= self._after:
            return
        now, step = int(1000 * time.time()), int(record["step"])
        values = [(_mlflow_name(name), value) for name, value in flat(record) if math.isfinite(value)]
        self._client.log_batch(self._id, metrics=[self._metric(name, value, now, step) for name, value in values])

    def close(self) -> None:
        """Say whether the training was finished."""
        self._client.set_terminated(self._id, status="FINISHED" if self._run.finished else "KILLED")


def _mlflow_name(name: str) -> str:
    """MLflow takes letters, digits and some signs; a class may be called anything."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)[:250]


class WandB:
    """A run in the format of Weights & Biases, written offline into the run folder: `wandb sync` uploads it.

    The environment variable WANDB_MODE=online sends it at once.
    """

    def __init__(self, run: Run, config: RunConfig, logged: int) -> None:
        import wandb

        known = _ids(run).get("wandb")
        self._after = logged if known else 0
        self._run = wandb.init(
            project=config.data.name,
            name=run.path.name,
            id=known,
            resume="allow" if known else None,
            dir=str(run.path),
            config=config.model_dump(mode="json"),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(silent=True, console="off", disable_git=True),
        )
        if not known:
            _remember(run, "wandb", self._run.id)

    def write(self, record: Mapping[str, Any]) -> None:
        """Add the numbers of one record under its step."""
        if record["step"] > self._after:
            self._run.log(dict(flat(record)), step=int(record["step"]))

    def close(self) -> None:
        """Write out and close."""
        self._run.finish()


TRACKERS: Mapping[str, Callable[[Run, RunConfig, int], Logger]] = {"mlflow": MLflow, "wandb": WandB}
"""Trackers by the name of `--track`, which is also that of their package and of the extra that installs it."""


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that do not exist or are not installed.

    Raises:
        InputError: naming each of them.
    """
    problems = [
        f"--track {name}: no such tracker: {did_you_mean(name, TRACKERS)}" for name in names if name not in TRACKERS
    ]
    problems += [
        f"--track {name}: the package {name} is not installed: run pip install 'semiseg[{name}]'"
        for name in names
        if name in TRACKERS and find_spec(name) is None
    ]
    raise_all(problems)


def open_tracker(name: str, run: Run, config: RunConfig, logged: int) -> Logger:
    """The tracker `name` for this run; `logged` is the last step that the run's log had when the run was continued.

    Raises:
        InputError: it cannot be opened, for example because its server does not answer.
    """
    try:
        return TRACKERS[name](run, config, logged)
    except Exception as error:
        raise InputError(
            f"--track {name}: cannot be opened ({type(error).__name__}: {error}): correct its settings, or train "
            "without it"
        ) from error


class Forgiving:
    """A logger whose first failure is noted and silences it, so that training goes on."""

    def __init__(self, logger: Logger, name: str, note: Callable[[str], None]) -> None:
        self._logger: Logger | None = logger
        self._name, self._note = name, note

    def write(self, record: Mapping[str, Any]) -> None:
        """Pass the record on."""
        self._attempt(lambda logger: logger.write(record))

    def close(self) -> None:
        """Close the logger."""
        self._attempt(lambda logger: logger.close())

    def _attempt(self, action: Callable[[Logger], None]) -> None:
        if self._logger is None:
            return
        try:
            action(self._logger)
        except Exception as error:
            self._logger = None
            self._note(f"{self._name} failed and gets no more records ({error}); log.jsonl is complete")


def _parameters(config: RunConfig) -> list[tuple[str, str]]:
    return list(_named(config.model_dump(mode="json")))


def _named(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            pairs += _named(value, f"{prefix}{name}.")
        else:
            pairs.append((prefix + name, json.dumps(value) if not isinstance(value, str) else value))
    return pairs


def _ids(run: Run) -> dict[str, str]:
    path = run.path / _FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _remember(run: Run, tracker: str, number: str) -> None:
    path: Path = run.path / _FILE
    write_json(path, {**_ids(run), tracker: number})
