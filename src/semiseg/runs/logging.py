"""What a run says while it trains: JSON lines, a text and TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from semiseg.system.files import write_text, writing


class Meter:
    """Sums of scalars that stay on the device until they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one value to each named sum."""
        for name, value in values.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._count[name] = self._count.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """Means since the last reading; one transfer from the device."""
        if not self._sums:
            return {}
        means = torch.stack([self._sums[name] / self._count[name] for name in self._sums]).tolist()
        names = list(self._sums)
        self._sums, self._count = {}, {}
        return dict(zip(names, means, strict=True))


class Logger(Protocol):
    """Takes one record per reading: step, loss terms, rates, observations."""

    def write(self, record: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


class Display(Logger, Protocol):
    """A logger that also shows how far the training is."""

    def note(self, text: str) -> None: ...
    def advance(self) -> None: ...


class JsonLines:
    """One JSON object per line; lines after the step of a resumed checkpoint are dropped."""

    def __init__(self, path: Path, resumed_at: int) -> None:
        kept = [line for line in read_log(path) if line["step"] <= resumed_at]
        write_text(path, "".join(f"{json.dumps(line)}\n" for line in kept))
        self._path, self._file = path, path.open("a", encoding="utf-8")

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record."""
        with writing(self._path):
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what a full disk left in the buffer was told when it was written
            self._file.close()


class TextLog:
    """The record for people: the notes that the terminal showed, and a line per reading; a full disk stops no run."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, text: str) -> None:
        """A line of its own, with the time."""
        with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {text}\n")

    def write(self, record: Mapping[str, Any]) -> None:
        """The losses or scores of a record."""
        told = [f"{name.removeprefix('loss/')} {value:.4g}" for name, value in flat(record)]
        self.note(f"step {record['step']}: {', '.join(line for line in told if not line.startswith('observed/'))}")

    def close(self) -> None:
        """Nothing is open."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole records of a run's log, in order; none when there is no log."""
    if not path.exists():
        return []
    whole = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # the line that a kill cut off
            break
        if isinstance(record, dict) and type(record.get("step")) is int:
            whole.append(record)
    return whole


class TensorBoard:
    """Event files for TensorBoard; a resumed run hides the events after its checkpoint."""

    def __init__(self, folder: Path, resumed_at: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=resumed_at + 1 if resumed_at else None)

    def write(self, record: Mapping[str, Any]) -> None:
        """One scalar per number of the record, nested names joined by a slash."""
        for name, value in flat(record):
            self._writer.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Write out and close."""
        self._writer.close()


def flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """The numbers of a record but for its step, nested names joined by slashes."""
    pairs: list[tuple[str, float]] = []
    for name, value in record.items():
        if isinstance(value, Mapping):
            pairs += flat(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            pairs += [(f"{prefix}{name}/{index}", float(item)) for index, item in enumerate(value)]
        elif isinstance(value, int | float) and name != "step":
            pairs.append((prefix + name, float(value)))
    return pairs


class Stopwatch:
    """Patches per second since the last reading."""

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self._patches = 0

    def add(self, patches: int) -> None:
        """Count processed patches."""
        self._patches += patches

    def rate(self) -> float:
        """Patches per second; starts anew."""
        now = time.perf_counter()
        rate = self._patches / max(now - self._since, 1e-9)
        self._since, self._patches = now, 0
        return rate
