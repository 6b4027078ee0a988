"""Cells in processes of their own, several at a time; a process that dies takes no other with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing import connection, get_all_start_methods, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from semiseg.comparison.work import Task, note_death, work
from semiseg.system.parallel import end_with_parent, secluded
from semiseg.training.train import interrupts

STOPPED = 75
"""Exit status of a process that a signal stopped before its cell was done."""
_GRACE = 60.0
"""Seconds that a training has for its checkpoint after a signal."""


def run_here(tasks: Sequence[Task], workers: int, done: Callable[[Task], None]) -> bool:
    """Work on `tasks`, `workers` at a time, one process each; False when a signal ended it.

    Where there are several GPUs, processes take turns on them. `done` is called after each task, whatever came of it.
    """
    if (how := _start_method()) == "forkserver":
        get_context(how).set_forkserver_preload(["semiseg.comparison.work", "semiseg.training.train"])
    waiting = list(tasks)
    busy: dict[int, tuple[BaseProcess, Task]] = {}
    devices = visible_devices() if workers > 1 else []
    with interrupts() as stop:
        while (waiting and not stop) or busy:
            for slot in range(workers):
                if slot not in busy and waiting and not stop:
                    task = waiting.pop(0)
                    busy[slot] = _start(task, _device(devices, slot)), task
            if stop:
                _stop([process for process, _ in busy.values()])
            connection.wait([process.sentinel for process, _ in busy.values()], timeout=0.2)
            for slot in [slot for slot, (process, _) in busy.items() if not process.is_alive()]:
                process, task = busy.pop(slot)
                _note_end(process, task, stopped=bool(stop))
                done(task)
    return not stop


def _start_method() -> str:
    """From a server that has imported everything, where the system can fork (Windows cannot)."""
    return "forkserver" if "forkserver" in get_all_start_methods() else "spawn"


def _start(task: Task, device: str | None) -> BaseProcess:
    context: Any = get_context(_start_method())
    process: BaseProcess = context.Process(target=_in_process, args=(task, device))
    with secluded():
        process.start()
    return process


def _note_end(process: BaseProcess, task: Task, *, stopped: bool) -> None:
    process.join()
    if process.exitcode not in (0, STOPPED) and not stopped:
        note_death(task, process.exitcode or 0)


def visible_devices() -> list[str]:
    """GPUs that CUDA shows to this process, as `CUDA_VISIBLE_DEVICES` names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]


def _device(devices: Sequence[str], slot: int) -> str | None:
    return devices[slot % len(devices)] if len(devices) > 1 else None


def _stop(processes: Sequence[BaseProcess]) -> None:
    """Let trainings write their checkpoints, and end what does not end by itself."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_GRACE)
        if process.is_alive():
            process.kill()
            process.join()


def _in_process(task: Task, device: str | None) -> None:
    end_with_parent()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    _write_to(task.record.with_suffix(".log"))
    if not work(task):
        sys.exit(STOPPED)


def _write_to(log: Path) -> None:
    """Let everything that the process prints go to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
