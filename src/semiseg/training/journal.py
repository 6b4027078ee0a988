"""The record of a run: collects on the device, reads every few steps, tells the screen and the files."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor

from semiseg.batches.batch import Batch
from semiseg.errors import InputError
from semiseg.runs.logging import Display, JsonLines, Logger, Meter, Stopwatch, TensorBoard, TextLog, read_log
from semiseg.training.execution import uncompiled
from semiseg.training.memory import step_bytes
from semiseg.training.non_finite import KEPT, Dump, Trail, Update, broken_state
from semiseg.training.progress import Bar
from semiseg.training.session import Session
from semiseg.training.trackers import Forgiving, open_tracker
from semiseg.training.validate import Validation
from semiseg.training.watch import Watch

_log = logging.getLogger(__name__)

Screen = Literal["none", "bar", "watch"]
"""What the terminal shows: nothing, a progress bar, or curves."""


class Journal:
    """Context that logs a session; only the first process writes."""

    def __init__(self, session: Session, *, screen: Screen = "none", track: Sequence[str] = ()) -> None:
        self._session = session
        self._meter, self._watch = Meter(), Stopwatch()
        self._streak: Tensor = torch.full((), float(session.progress.streak), device=session.fabric.device)
        self._skips: Tensor = torch.zeros((), device=session.fabric.device)
        self._trail, self._left_out = Trail(), deque[Update](maxlen=KEPT)
        self._loggers: list[Logger] = []
        self._display: Display | None = None
        self._text: TextLog | None = None
        self._last_read = session.progress.step
        self._uncompiled = 0
        if session.fabric.is_global_zero:
            self._open(screen, track)

    def _open(self, screen: Screen, track: Sequence[str]) -> None:
        run, config, step = self._session.run, self._session.config, self._session.progress.step
        logged = max((int(line["step"]) for line in read_log(run.log)), default=0)
        kind = Watch if screen == "watch" else Bar
        display = self._display = kind(config.method, config.steps, step, shown=screen != "none")
        self._text = TextLog(run.path / "log.txt")
        counted = "" if self._session.fabric.device.type == "cpu" else ", counted for a CPU"
        self._note(f"a step takes about {step_bytes(self._session.memory_inputs) / 2**30:.2g} GiB of memory{counted}")
        self._note(f"{self._session.choice.note}; {self._session.batches.note}")
        events = Forgiving(TensorBoard(run.path / "tensorboard", step), "tensorboard", self._note)
        files: list[Logger] = [JsonLines(run.log, step), self._text, events]
        trackers = [Forgiving(open_tracker(name, run, config, logged), name, self._note) for name in track]
        self._loggers = [*files, *trackers, display]

    def _note(self, text: str) -> None:
        if self._display and self._text:
            self._display.note(text)
            self._text.note(text)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for logger in self._loggers:
            logger.close()

    def add(self, terms: Mapping[str, Tensor], total: Tensor, skipped: Tensor) -> None:
        """Take the terms of one update; `skipped` is 1 when it was left out."""
        loss = {**terms, "total": total}
        self._meter.add(loss)
        self._trail.add(self._session.progress.step, loss, skipped)
        self._streak = (self._streak + skipped) * skipped
        self._skips = self._skips + skipped

    def tick(self, step: int, batch: Batch) -> None:
        """`step` steps are done; read when it is time."""
        self._watch.add(len(batch.cases))
        if self._display:
            self._display.advance()
        if step % self._session.config.log_every == 0:
            self.read(step)

    def read(self, step: int) -> None:
        """Fetch what was collected since the last reading and write it.

        Raises:
            InputError: too many updates in a row were non-finite.
        """
        if step == self._last_read:
            return
        self._last_read = step
        streak, skips = torch.stack([self._streak, self._skips]).tolist()
        self._skips = torch.zeros_like(self._skips)
        session = self._session
        session.progress.skipped += int(skips)
        session.progress.streak = int(streak)
        self._write(
            {
                "step": step,
                "loss": self._meter.read(),
                "lr": session.rate(step - 1),
                "patches_per_second": self._watch.rate() * session.fabric.world_size,
                "skipped": session.progress.skipped,
                "observed": {name: value.tolist() for name, value in session.method.observations().items()},
            }
        )
        self._tell_what_is_not_compiled()
        if skips:
            self._left_out.extend(self._trail.skipped())
            self._tell(step, int(skips))
        self._trail.clear()

    def check_state(self, step: int) -> None:
        """Before a checkpoint of `step` is written: everything in it must be finite.

        Raises:
            InputError: it is not, as when a broken image went into the running statistics of a normalisation.
        """
        broken = broken_state(self._session)
        if not broken:
            return
        dump = self._dump()
        raise InputError(
            f"after step {step}, {len(broken)} tensors of the training are not finite, such as {broken[0]}: "
            f"{dump.blame()}; details are in {dump.path}, and the last checkpoint is kept"
        )

    def validated(self, step: int, found: Validation) -> None:
        """Write a validation: mean foreground Dice, that of each class, and that of each network where it was asked."""
        networks = {"networks": dict(found.networks)} if found.networks else {}
        self._write({"step": step, "validation": {"dice": found.dice, "per_class": found.per_class, **networks}})

    def _write(self, record: Mapping[str, Any]) -> None:
        for logger in self._loggers:
            logger.write(record)

    def _tell_what_is_not_compiled(self) -> None:
        mode, before = self._session.choice.mode, self._uncompiled
        if self._display and (mode.compile or mode.losses):
            self._uncompiled = uncompiled()
            if self._uncompiled > before:
                self._note(f"{self._uncompiled} pieces of code cannot be compiled here, and run as they are")

    def _tell(self, step: int, skips: int) -> None:
        """Name the cases of what was left out since the last reading, and end the run where it is too much."""
        dump, progress = self._dump(), self._session.progress
        if progress.streak >= self._session.config.max_skipped:
            raise InputError(
                f"the loss was not finite for {progress.streak} updates in a row up to step {step}: {dump.blame()}; "
                f"details are in {dump.path}, and the last checkpoint is kept"
            )
        told = f"{skips} updates up to step {step} were left out, not finite: see {dump.path}"
        _log.warning("%s", told)
        if self._text:
            self._text.note(told)

    def _dump(self) -> Dump:
        dump = Dump(self._session, self._left_out)
        dump.write(self._session.progress.streak)
        return dump
