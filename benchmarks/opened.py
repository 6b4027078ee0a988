"""How often a command opens the files below a folder, in all of its processes.

    python benchmarks/opened.py FOLDER train FOLDER/data -o FOLDER/run --labelled 4

Runs `semiseg train ...`, and prints for each kind of file how many there are, how often all of them were opened, and
how often each. What a library opens by itself, in C, is not seen.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

HOOK = """
import os, sys

root, log = os.environ["OPENED_ROOT"], os.open(os.environ["OPENED_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def hook(event, args):
    if event == "open" and not isinstance(args[0], int):
        path, mode, flags = os.path.abspath(os.fsdecode(args[0])), args[1], args[2]
        writes = any(sign in mode for sign in "wax+") if mode else flags & (os.O_WRONLY | os.O_RDWR)
        if path.startswith(root) and not os.path.isdir(path):
            os.write(log, f"{os.getpid()}\\t{'w' if writes else 'r'}\\t{os.path.relpath(path, root)}\\n".encode())

sys.addaudithook(hook)
"""
"""Put into every Python process by its name, `sitecustomize`."""


class Opening(NamedTuple):
    """A file that a process opened, `r` to read or `w` to write; `path` is relative to the folder."""

    process: int
    mode: str
    path: str


def openings(command: Sequence[object], folder: Path) -> list[Opening]:
    """What `command` and the processes that it starts open below `folder`, in order.

    Raises:
        RuntimeError: the command failed.
    """
    with TemporaryDirectory() as place:
        Path(place, "sitecustomize.py").write_text(HOOK, encoding="utf-8")
        log = Path(place, "log")
        paths = [place, *filter(None, [os.environ.get("PYTHONPATH")])]
        told = {"PYTHONPATH": os.pathsep.join(paths), "OPENED_ROOT": str(folder.absolute()), "OPENED_LOG": str(log)}
        done = subprocess.run(
            [str(word) for word in command], env={**os.environ, **told}, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr}")
        lines = [line.split("\t") for line in log.read_text(encoding="utf-8").splitlines()]
    return [Opening(int(process), mode, path) for process, mode, path in lines]


def kind_of(path: str) -> str:
    """`path` with a star where the name of a case stands."""
    head, _, name = path.rpartition("/")
    if name.endswith(".part"):
        return "temporary files"
    short = (
        re.sub(r"^[^.]*", "*", name)
        if name.endswith((".gz", ".npy")) or head.endswith(("store", ".predicted"))
        else name
    )
    return f"{head}/{short}" if head else short


def summary(found: Iterable[Opening]) -> Iterator[str]:
    """A line per kind of file."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(list)
    for (path, mode), count in Counter((opening.path, opening.mode) for opening in found).items():
        counts[kind_of(path), mode].append(count)
    for (kind, mode), each in sorted(counts.items(), key=lambda item: -sum(item[1])):
        often = f"{min(each)}" if min(each) == max(each) else f"{min(each)} to {max(each)}"
        yield f"{len(each):5} files  {sum(each):6} times  {often:>8} each  {mode}  {kind}"


def main(folder: str, *words: str) -> None:
    """Count and print."""
    found = openings([sys.executable, "-m", "semiseg.cli", *words], Path(folder))
    print(f"{len(found)} openings of {len({opening.path for opening in found})} files")
    print("\n".join(summary(found)))


if __name__ == "__main__":
    main(*sys.argv[1:])
