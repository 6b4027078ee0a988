"""Memory layout, compilation and CUDA graphs of a run, chosen by timing them on its own network and patches.

A mode is kept only when it is faster. The choice is remembered for the machine, in the user's cache folder, and written
into the run folder (`speed.json`), for a run that is continued must do what it did before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from semiseg.networks.base import Network
from semiseg.settings.run import SpeedConfig
from semiseg.system.files import write_json
from semiseg.system.memory import is_out_of_memory
from semiseg.training.execution import ExecutionMode, Layout, forget_trials, losses_seconds, pass_seconds

_log = logging.getLogger(__name__)

LONG = 1000
"""Steps from which on both layouts are tried, which takes about as long as ten steps."""
MIN_SPEEDUP = 1.05
"""Factor by which a mode must be faster to be taken in place of the usual one."""
MAX_COMPILE_SHARE = 0.1
"""Share of a run's time that compilation, which may save as much, is allowed to cost."""
COMPILE_SECONDS = 120.0
"""Seconds that compiling a network for training takes, roughly."""


@dataclass(frozen=True)
class Workload:
    """Passes of a network on images `[B, channels, *S]`, as many as the run has steps.

    Attributes:
        network: names the network with all its options.
        classes: of its predictions.
    """

    build: Callable[[], Network]
    network: str
    classes: int
    images: tuple[int, ...]
    precision: str
    device: torch.device
    steps: int

    def key(self, config: SpeedConfig) -> str:
        """Name of machine, software, workload and settings."""
        cuda = self.device.type == "cuda"
        name = torch.cuda.get_device_name(self.device) if cuda else platform.processor() or platform.machine()
        machine = (torch.__version__, self.device.type, name, os.cpu_count(), torch.get_num_threads())
        # Whether compilation is worth its while depends on the length of the run.
        length = self.steps.bit_length() if cuda else self.steps >= LONG
        work = (self.network, self.classes, self.images, self.precision, length)
        settings = config.model_dump(exclude={"resident"})
        return hashlib.sha256(json.dumps([machine, work, settings]).encode()).hexdigest()[:16]

    def pass_seconds(self, mode: ExecutionMode) -> float:
        """Seconds of a pass of the network, forwards and backwards."""
        return pass_seconds(self.build(), torch.randn(self.images, device=self.device), self.precision, mode)

    def losses_seconds(self, mode: ExecutionMode) -> float:
        """Seconds that the losses of one step take."""
        kind = torch.bfloat16 if self.precision == "bf16" else torch.float32
        logits = torch.randn((self.images[0], self.classes, *self.images[2:]), device=self.device)
        return losses_seconds(logits.to(kind), mode)

    def pays_compilation(self, spent: Callable[[], float]) -> bool:
        """Whether compiling passes of so many seconds may save more than it costs; not on CPUs, see docs/speed.md."""
        if self.device.type != "cuda" or self.steps < LONG:
            return False
        return COMPILE_SECONDS < MAX_COMPILE_SHARE * self.steps * spent() < math.inf


@dataclass(frozen=True)
class Choice:
    """A mode and the reason for it, in a line."""

    mode: ExecutionMode
    note: str


def choose_execution(config: SpeedConfig, work: Workload, run: Path, cache: Path | None = None) -> Choice:
    """The choice that the run made before, or an earlier one on this machine, or the one measured now.

    It never fails: what does not work here is left out, and the note says so.

    Args:
        config: what is asked for; `auto` leaves it to measurement.
        work: what is timed.
        run: folder of the run.
        cache: file with the choices of this machine; None: the one in the user's cache folder.
    """
    key, cache = work.key(config), cache or cache_file()
    known, remembered = _read(run / "speed.json"), _read(cache)
    if key in known:
        return known[key]
    choice = remembered.get(key)
    if choice is None:
        choice, lasting = _measured(config, work)
        if lasting:
            _write(cache, {**remembered, key: choice})
    _write(run / "speed.json", {key: choice})
    return choice


def cache_file() -> Path:
    """Where the choices of this machine are kept."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "semiseg" / "speed.json"


def _measured(config: SpeedConfig, work: Workload) -> tuple[Choice, bool]:
    """The choice, and whether it holds for later runs as well: memory may have been another process's."""
    passes = _Trial("a pass", work.pass_seconds, _named)
    losses = _Trial("losses", work.losses_seconds, _named_of_losses)
    best = _best(config, work, passes, losses)
    if passes.words or losses.words:
        forget_trials(work.device)
    found = "; ".join(words for words in (passes.words, losses.words) if words)
    choice = Choice(best, f"networks: {best.words}{f' ({found})' if found else ''}")
    return choice, not (passes.short_of_memory or losses.short_of_memory)


def _best(config: SpeedConfig, work: Workload, passes: _Trial, losses: _Trial) -> ExecutionMode:
    best = ExecutionMode.usual(work.device)
    if config.layout != "auto":
        best = replace(best, layout=config.layout)
    elif work.steps >= LONG:
        other: Layout = "contiguous" if best.layout == "channels_last" else "channels_last"
        best = passes.faster(best, replace(best, layout=other))
    if config.compile == "on" or config.graphs == "on":
        best = passes.working(best, replace(best, compile=True))
    elif config.compile == "auto" and work.pays_compilation(partial(passes.seconds, best)):
        best = passes.faster(best, replace(best, compile=True))
    if best.compile and work.device.type == "cuda" and config.graphs != "off":
        decide = passes.working if config.graphs == "on" else passes.faster
        best = decide(best, replace(best, cuda_graphs=True))
    if config.losses == "on":
        best = losses.working(best, replace(best, losses=True))
    elif config.losses == "auto" and best.compile:
        best = losses.faster(best, replace(best, losses=True))
    return best


class _Trial:
    """Modes of executing something, measured once each."""

    def __init__(
        self, name: str, measure: Callable[[ExecutionMode], float], name_mode: Callable[[ExecutionMode], str]
    ) -> None:
        self._name, self._measure, self._name_mode = name, measure, name_mode
        self._took: dict[ExecutionMode, float] = {}
        self._failed: dict[ExecutionMode, str] = {}
        self.short_of_memory = False

    def faster(self, old: ExecutionMode, new: ExecutionMode) -> ExecutionMode:
        """`new` if it works and is clearly faster."""
        return new if self.seconds(old) > MIN_SPEEDUP * self.seconds(new) else old

    def working(self, old: ExecutionMode, new: ExecutionMode) -> ExecutionMode:
        """`new` if it works."""
        return new if self.seconds(new) < math.inf else old

    def seconds(self, mode: ExecutionMode) -> float:
        """What it takes; infinite where it does not work."""
        if mode not in self._took:
            try:
                self._took[mode] = self._measure(mode)
            except Exception as error:  # whatever it is (no compiler, an old device, no memory), others may work
                self._took[mode] = math.inf
                memory = is_out_of_memory(error)
                self.short_of_memory |= memory
                self._failed[mode] = "takes too much memory" if memory else f"fails ({type(error).__name__})"
        return self._took[mode]

    @property
    def words(self) -> str:
        """What was found; empty where nothing was measured."""
        parts = [self._failed.get(each, f"{1000 * spent:.3g} ms") for each, spent in self._took.items()]
        found = "; ".join(f"{self._name_mode(each)} {part}" for each, part in zip(self._took, parts, strict=True))
        return f"{self._name} {found}" if found else ""


def _named(mode: ExecutionMode) -> str:
    return mode.words


def _named_of_losses(mode: ExecutionMode) -> str:
    return "compiled" if mode.losses else "not compiled"


def _read(file: Path) -> dict[str, Choice]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {key: Choice(ExecutionMode(**_current(value)), value["note"]) for key, value in found.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _current(choice: dict[str, Any]) -> dict[str, Any]:
    """The mode of a choice, also of files with its former names."""
    mode = choice.get("mode") or choice["levers"]
    return {"cuda_graphs" if name == "graphs" else name: value for name, value in mode.items()}


def _write(file: Path, choices: dict[str, Choice]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {key: asdict(choice) for key, choice in choices.items()})
    except OSError as error:
        _log.info("%s cannot be written (%s): the next run measures again", file, error)
