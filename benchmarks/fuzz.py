"""Damaged files through every reader: each is taken as valid or refused with a clear message (Linux).

    python benchmarks/fuzz.py [--inputs 2400] [--seed 0] [--workers 2] [--kind NAME ...] [--all] [--json FILE]

Samples are small datasets in every format (a real scan among them where SEMISEG_TEST_DATA or ../shared/data has one),
settings, splits, plans, a prepared store, a run with its checkpoints, and foreign weights. Input number i is a pure
function of seed and i. Worker processes read them one at a time; an input that ends in another exception, kills or
hangs the process (10 s of its processor, 60 s of the clock), takes more than 2 GiB, or is taken though its content is
not valid, is a violation: it is kept in the folder `fuzz_failures`, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]

from fuzzing.corpus import Kind, build, kinds  # noqa: E402
from fuzzing.worker import MEMORY, damage  # noqa: E402
from fuzzing.worker import main as work  # noqa: E402

CPU_LIMIT, CLOCK_LIMIT = 10.0, 60.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Tally:
    """What became of the inputs of one kind."""

    accepted: int = 0
    refused: int = 0
    violations: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    memory: int = 0

    def add(self, found: dict[str, Any]) -> None:
        """Count one input."""
        self.accepted += found["verdict"] == "accepted"
        self.refused += found["verdict"] == "refused"
        self.seconds = max(self.seconds, found["seconds"])
        self.memory = max(self.memory, found["memory"])
        if found["verdict"] == "violation":
            self.violations.append(found)


class Worker:
    """A worker process; started anew when an input has ended it."""

    def __init__(self, corpus: Path, scratch: Path, seed: int) -> None:
        self._command = [sys.executable, __file__, "--work", str(corpus), str(scratch), str(seed)]
        self.process: subprocess.Popen[str] | None = None
        scratch.mkdir()

    def try_input(self, index: int) -> dict[str, Any]:
        """What becomes of input `index`."""
        process = self.process = self.process or self._start()
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # of a dead process, whose end is told below
            process.stdin.write(f"{index}\n")
            process.stdin.flush()
        found = self._answer(process, time.monotonic(), self._used(process))
        if found["verdict"] != "violation" and found["memory"] > MEMORY:
            found |= {"verdict": "violation", "message": f"took {found['memory'] / 2**30:.2f} GiB of memory"}
        if found["verdict"] == "violation":  # what is left of it in the process is not the next input's fault
            self.close()
        return {"index": index, **found}

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if not process.stdout.readline():
            raise SystemExit(f"the worker did not start: see {self._command[-2]}/output.txt")
        return process

    def _answer(self, process: subprocess.Popen[str], began: float, used: float) -> dict[str, Any]:
        assert process.stdout is not None
        while not select.select([process.stdout], [], [], 0.5)[0]:
            if self._used(process) - used > CPU_LIMIT or time.monotonic() - began > CLOCK_LIMIT:
                process.kill()
                break
        line = process.stdout.readline()
        if line:
            return dict(json.loads(line))
        status = process.wait()
        self.close()
        how = (
            "hung"
            if status == -signal.SIGKILL
            else f"was ended by {signal.Signals(-status).name}"
            if status < 0
            else f"ended with {status}"
        )
        return {
            "verdict": "violation",
            "message": f"the process {how}",
            "seconds": time.monotonic() - began,
            "memory": 0,
        }

    @staticmethod
    def _used(process: subprocess.Popen[str]) -> float:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def run(corpus: Path, scratch: Path, seed: int, indices: list[int], workers: int) -> Iterator[dict[str, Any]]:
    """Try inputs in worker processes, and give what became of each as it comes."""
    crew = [Worker(corpus, scratch / str(number), seed) for number in range(workers)]
    try:
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(indices), workers):
                yield from pool.map(Worker.try_input, crew, indices[start : start + workers])
    finally:
        for worker in crew:
            worker.close()


def main() -> int:
    """Try all inputs, print a table; 1 when there was a violation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=2400, help="number of damaged files")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--kind", nargs="*", help="these kinds only")
    parser.add_argument("--all", action="store_true", help="go on after a violation")
    parser.add_argument("--failures", type=Path, default=Path("fuzz_failures"), help="folder for what was wrong")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    names = [kind.name for kind in kinds()]
    chosen = [
        index
        for index in range(arguments.first, arguments.first + arguments.inputs)
        if not arguments.kind or names[index % len(names)] in arguments.kind
    ]
    tallies: dict[str, Tally] = defaultdict(Tally)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder / "corpus", real_data())
        (folder / "work").mkdir()
        for found in run(folder / "corpus", folder / "work", arguments.seed, chosen, arguments.workers):
            kind = kinds()[found["index"] % len(names)]
            tallies[kind.name].add(found)
            if found["verdict"] == "violation":
                keep(kind, folder / "corpus", arguments, found)
                if not arguments.all:
                    break
    report(tallies)
    if arguments.json:
        arguments.json.write_text(json.dumps({name: vars(tally) for name, tally in tallies.items()}, indent=2) + "\n")
    return int(any(tally.violations for tally in tallies.values()))


def real_data() -> Path | None:
    """Folder of real scans, if there is one."""
    folder = Path(os.environ.get("SEMISEG_TEST_DATA", ROOT.parent / "shared" / "data"))
    return folder if (folder / "hippocampus").is_dir() else None


def keep(kind: Kind, corpus: Path, arguments: argparse.Namespace, found: dict[str, Any]) -> None:
    """Write the input that was wrong to the folder of failures, and say how to get it again."""
    folder = arguments.failures / f"{arguments.seed}_{found['index']}"
    target, how = damage(kind, corpus, folder, arguments.seed, found["index"])
    found |= {"target": str(target.relative_to(folder)), "how": how}
    (folder / "violation.json").write_text(json.dumps({"kind": kind.name, **found}, indent=2) + "\n")
    print(
        f"VIOLATION {kind.name}: {found['target']} ({found['how']}): {found['message']}\n"
        f"  kept in {folder}; again: --seed {arguments.seed} --first {found['index']} --inputs 1",
        flush=True,
    )


def report(tallies: dict[str, Tally]) -> None:
    """Print the table."""
    print(
        f"{'kind':24s} {'inputs':>7s} {'accepted':>9s} {'refused':>8s} {'violations':>11s} {'worst s':>8s} {'GiB':>6s}"
    )
    total = Tally()
    for name, tally in [*tallies.items(), ("total", total)]:
        count = tally.accepted + tally.refused + len(tally.violations)
        print(
            f"{name:24s} {count:7d} {tally.accepted:9d} {tally.refused:8d} {len(tally.violations):11d} "
            f"{tally.seconds:8.2f} {tally.memory / 2**30:6.2f}"
        )
        if tally is not total:
            total.accepted, total.refused = total.accepted + tally.accepted, total.refused + tally.refused
            total.violations += tally.violations
            total.seconds, total.memory = max(total.seconds, tally.seconds), max(total.memory, tally.memory)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        sys.exit(main())
