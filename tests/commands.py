"""The command line in processes of their own, without the seconds that starting Python and importing PyTorch take.

A server that has imported everything once forks a process for every command.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

TIMEOUT = 120
_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "semiseg.cli",
        "semiseg.preparing.prepare",
        "semiseg.training.train",
        "semiseg.evaluation.evaluate",
        "semiseg.prediction",
    ]
)


@dataclass(frozen=True)
class Answer:
    """How a command ended and what it said."""

    returncode: int | None
    stdout: str
    stderr: str


def semiseg(*arguments: object, largest_file: int | None = None) -> Answer:
    """Answer to the command `semiseg` with these arguments.

    Args:
        largest_file: bytes above which writing a file fails, as on a full disk.
    """
    with TemporaryDirectory() as folder:
        said = [Path(folder, name) for name in ("stdout", "stderr")]
        process = start(*arguments, said=said, largest_file=largest_file)
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"semiseg {arguments} did not end in {TIMEOUT} s")
        return Answer(process.exitcode, *(path.read_text(encoding="utf-8") for path in said))


def start(*arguments: object, said: Sequence[Path], largest_file: int | None = None) -> BaseProcess:
    """The process of a command that writes what it says, and its errors, at the ends of these files."""
    process = _FORKS.Process(target=_run, args=([str(each) for each in arguments], said, largest_file))
    process.start()
    return process


def _redirected(number: int, path: Path) -> TextIO:
    """The stream with this number, for Python and for libraries below it, from now on in a file."""
    with path.open("ab") as file:
        os.dup2(file.fileno(), number)
    return open(number, "w", encoding="utf-8", closefd=False)


def _run(arguments: list[str], said: Sequence[Path], largest_file: int | None) -> None:
    sys.argv = ["semiseg", *arguments]
    sys.stdout, sys.stderr = (_redirected(number, path) for number, path in enumerate(said, 1))
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    from semiseg.cli import main

    main()
