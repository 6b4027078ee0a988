"""The training loop."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.datasets.dataset import Dataset
from semiseg.runs.folder import Run
from semiseg.settings.run import RunConfig
from semiseg.training.execution import training_step
from semiseg.training.journal import Journal
from semiseg.training.memory import explained
from semiseg.training.optim import guarded_step
from semiseg.training.refresh import refresh
from semiseg.training.session import Session, open_session
from semiseg.training.trackers import check_trackers
from semiseg.training.used import refuse_other_data
from semiseg.training.validate import validate

_log = logging.getLogger(__name__)


def train(
    config: RunConfig,
    output: Path,
    *,
    show: bool = True,
    watch: bool = False,
    track: Sequence[str] = (),
    dataset: Dataset | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Run:
    """Train as `config` says in the run folder `output`; a folder that holds a part of this run is continued.

    `watch` shows curves in the terminal instead of a progress bar; `track` names trackers, see `training.trackers`.
    `dataset` is that of the settings, where it is open already; `say` is told of differences from a preset, and of
    what is going to be done.

    SIGINT and SIGTERM end it after the current step with a checkpoint; then `Run.finished` is False.

    Raises:
        InputError: settings, data or folder are not usable, the folder holds another run, or one of other data, or the
            loss stayed non-finite.
    """
    check_trackers(track)
    run = Run(output)
    if run.finished and _same(run.config(), config):
        refuse_other_data(run, config, dataset)
        _log.info("%s is finished already", output)
        return run
    with (
        open_session(config, run, dataset, say) as session,
        _journal(session, show, watch, track) as journal,
        interrupts() as stop,
    ):
        session.stepper.train()
        saved = Saved(session.config.checkpoint_minutes)
        first = session.progress.step
        with explained(session.memory_inputs, output):
            for step, batch in enumerate(session.batches.stream(first, session.config.steps), first):
                if session.exhausted:
                    break
                session.enter_stage(step)
                refresh(session, step)
                train_step(session, journal, step, batch)
                session.progress.step = step + 1
                journal.tick(step + 1, batch)
                _keep(session, journal, stop, saved)

                if stop:
                    return run
        session.save_weights("final")
    return run


def _journal(session: Session, show: bool, watch: bool, track: Sequence[str]) -> Journal:
    return Journal(session, screen="watch" if watch else "bar" if show else "none", track=track)


def _same(was: RunConfig, now: RunConfig) -> bool:
    """Whether both ask for the same; steps that follow from epochs are written in a run, but not asked for."""
    return was == (now.model_copy(update={"steps": was.steps}) if now.epochs else now)


def train_step(session: Session, journal: Journal, step: int, batch: Batch) -> None:
    """One batch: backward and, where the loss says so, update at each yield, then the code after the method's last."""
    config = session.config
    rate = session.rate(step)
    session.seed(step)
    summed: dict[str, Tensor] = {}
    totals: list[Tensor] = []
    with training_step(session.choice.mode):
        losses = session.method.step(batch, session.clock(step))
        while (loss := session.stepper(losses)) is not None:
            group, total, terms, update = loss
            if not totals:
                for optimiser in session.optimisers.values():
                    optimiser.zero_grad()
            session.fabric.backward(total)
            summed |= terms
            totals.append(total.detach())
            if update:
                whole = torch.stack(totals).sum()
                skipped = guarded_step(_at_rate(session, group, rate), whole, config.optimiser.clip)
                journal.add(summed, whole, skipped)
                summed, totals = {}, []


def _at_rate(session: Session, group: str, rate: float) -> torch.optim.Optimizer:
    """The optimiser of a group, which has the rate of the run or keeps its own."""
    optimiser = session.optimisers[group]
    if group in session.method.optimisers():
        return optimiser
    for parameters in optimiser.param_groups:
        parameters["lr"] = rate
    return optimiser


def _keep(session: Session, journal: Journal, stop: list[int], saved: Saved) -> None:
    """Select and save when it is time, or when the run shall stop."""
    config, step = session.config, session.progress.step
    if session.validates(step):
        found = validate(session)
        journal.validated(step, found)
        session.take(found.dice)
    last = step == config.steps or session.exhausted
    if last or stop or step % config.checkpoint_every == 0 or saved.long_ago(session, step):
        journal.read(step)
        journal.check_state(step)
        session.save()
        saved.now()


class Saved:
    """When the last checkpoint was written, by the clock of the first process."""

    def __init__(self, minutes: float) -> None:
        self._most = 60 * minutes
        self.now()

    def now(self) -> None:
        """One has just been written."""
        self._at = time.monotonic()

    def long_ago(self, session: Session, step: int) -> bool:
        """Whether it is time for one, on all processes alike; looked at when the log is written."""
        if step % session.config.log_every:
            return False
        late = time.monotonic() - self._at > self._most
        return bool(session.fabric.broadcast(late)) if session.fabric.world_size > 1 else late


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """A list that is empty until SIGINT or SIGTERM arrives, which is answered at once; the second acts as usual."""
    received: list[int] = []
    usual: dict[int, Any] = {}

    def note(number: int, _: object) -> None:
        received.append(number)
        signal.signal(number, usual[number])
        print("Stopping after this step, with a checkpoint; once more ends at once.", file=sys.stderr, flush=True)

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        usual[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
