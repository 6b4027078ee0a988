"""A run to measure on: a session of the engine, its next steps, and generated scans where there are no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from semiseg.batches.batch import Batch
from semiseg.batches.sampler import Batches
from semiseg.phantom.cohort import PhantomConfig, make_cohort
from semiseg.runs.folder import Run
from semiseg.settings.load import load_config
from semiseg.settings.run import RunConfig
from semiseg.training.journal import Journal
from semiseg.training.session import Session, open_session
from semiseg.training.train import train_step

LENGTH = 100_000
"""Steps of a measured run: more than are ever taken, so that schedules stand where they begin."""

AT_WORK: dict[str, dict[str, Any]] = {
    "ducisc": {"warmup": 0.0},
    "cml": {"pretraining": 0.0},
    "bcp": {"pretraining": 0.0},
    "eic": {"autoencoder": 0.0},
}
"""Options with which a method does from the first step on what it does for most of a run."""

PAPERS: dict[str, Any] = {
    "network": {"name": "vnet", "options": {"filters": 16}},
    "optimiser": {"name": "sgd", "nesterov": False, "weight_decay": 1e-4, "clip": None},
}
"""Network and optimiser of the left-atrium papers."""


def phantom(folder: Path, sides: Sequence[int], labelled: int = 4, unlabelled: int = 4) -> Path:
    """A dataset of generated scans of these sides, with one organ; one that is there is taken."""
    return make_cohort(
        folder, PhantomConfig(shape=tuple(sides), organs=1, labelled=labelled, unlabelled=unlabelled, test=0)
    )


def settings(data: Path, method: str, assignments: Sequence[str] = (), **wishes: Any) -> RunConfig:
    """The configuration of a measured run: the method at work, no checkpoint, no validation; assignments win."""
    options = {**AT_WORK.get(method.partition("-")[0], {}), **wishes.pop("options", {})}
    values: Mapping[str, Any] = {
        "data": data,
        "method": method,
        "options": options,
        "steps": LENGTH,
        "checkpoint_every": LENGTH,
        **wishes,
    }
    return load_config(None, values, assignments)


class Steps:
    """Training steps, one after the other, as the engine takes them.

    Attributes:
        session: what trains.
        constant: the batch of the first step, already on the device.
    """

    def __init__(self, session: Session, journal: Journal) -> None:
        self.session, self._journal = session, journal
        self._step = 0
        self.constant: Batch = session.batches(0)
        self._stream = _endless(session.batches)
        session.stepper.train()

    def real(self) -> None:
        """The next step with its own batch, read, moved and augmented."""
        self._take(next(self._stream))

    def fixed(self) -> None:
        """The next step with the constant batch."""
        self._take(self.constant)

    def _take(self, batch: Batch) -> None:
        train_step(self.session, self._journal, self._step, batch)
        self._step += 1
        self._journal.tick(self._step, batch)

    def close(self) -> None:
        """End the reading ahead."""
        self._stream.close()


def _endless(batches: Batches) -> Any:
    yield from batches.stream(0, LENGTH)


@contextmanager
def opened(config: RunConfig, folder: Path) -> Iterator[Steps]:
    """The steps of a run whose folder is `folder`."""
    with open_session(config, Run(folder)) as session, Journal(session) as journal:
        steps = Steps(session, journal)
        try:
            yield steps
        finally:
            steps.close()
