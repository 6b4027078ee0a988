"""Commands that are killed again and again end with the very files of commands that were left alone (Linux).

    python benchmarks/faults.py [--kills 200 | --quick] [--seed 0] [--only train ...] [--json FILE] [--folder DIR]

A small cohort is generated; `prepare`, `train`, `predict`, `evaluate` and `compare` run undisturbed once. Then each is
started in a process group of its own, killed (SIGKILL), started again with the same words, killed again (one to five
times in a row), and at last left to end. Kills come

- at a time that is uniform over the duration of the undisturbed command (`time`), of the whole group or of the leader
  alone (`orphan`);
- right before a file is opened for writing, flushed, renamed or removed (`moment`), or renamed after only a part of
  it was written (`torn`): inside of writing checkpoints, stores, predictions, scores and tables;
- at a uniform time in the life of a real process that began with starting Python (`real`).

After every kill, every file that readers take for whole must be one that an undisturbed command writes, and what the
package's own readers accept must be right. At the end all files must be bit for bit those of the undisturbed command.
`fault_artefacts.py` says what is left out of that: times, and what counts them.

Prints a table and exits with status 1 at the first violation, whose files are kept. Takes about 7 minutes.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: children are forked, so the parent must not start threads

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

import fault_children
from fault_artefacts import Digests, contents, digest, problems
from fault_children import End, Kill
from semiseg.phantom.cohort import PhantomConfig, make_cohort

COHORT = PhantomConfig(shape=(24, 24, 20), organs=2, labelled=2, unlabelled=4, validation=1, test=2)
KINDS = ("time", "orphan", "moment", "torn", "real")
SMALL = (
    *("--set=accelerator=cpu", "--set=precision=fp32", "--set=network.options.filters=[4, 8]"),
    *("--set=batch.patch=[16, 16, 16]", "--set=batch.labelled=2", "--set=batch.unlabelled=2"),
    *("--set=checkpoint_every=2", "--set=log_every=2"),
)


class Violation(Exception):
    """Something that must not happen."""


@dataclass(frozen=True)
class Scene:
    """A command: its words and the folder that it starts from, if there must be one; weight is its share of kills."""

    name: str
    words: Callable[[Path, Path], list[str]]
    weight: int
    begins_with: str | None = None

    @property
    def command(self) -> str:
        """Name of the command."""
        return self.name.split()[0]


def _train(method: str, *more: str) -> Callable[[Path, Path], list[str]]:
    return lambda data, trial: [
        *("train", str(data), "-m", method, "--split", str(data / "splits" / "demo.json")),
        *("-o", str(trial), *SMALL, *more),
    ]


def _prepare(workers: int) -> Callable[[Path, Path], list[str]]:
    return lambda data, trial: ["prepare", str(data), "--prepared", str(trial), "--workers", str(workers)]


def _compare(data: Path, trial: Path) -> list[str]:
    grid = ("--methods", "mean_teacher", "--splits", str(data / "splits" / "demo.json"), "--seeds", "1")
    return ["compare", str(data), *grid, "--steps", "4", "-o", str(trial), *SMALL]


SCENES = (
    Scene("prepare", _prepare(1), 6),
    Scene("prepare (2 workers)", _prepare(2), 2),
    Scene("train (micd)", _train("micd", "--steps", "8"), 7),
    Scene("train (cml, stages)", _train("cml", "--steps", "8", "--set=select=best", "--set=validate_every=2"), 5),
    Scene("predict", lambda data, trial: ["predict", str(trial), "--accelerator", "cpu"], 7, "train (micd)"),
    Scene("evaluate", lambda data, trial: ["evaluate", str(trial)], 5, "predict"),
    Scene("compare", _compare, 8),
)
QUICK = ("prepare", "train (micd)", "predict", "evaluate", "compare")


@dataclass
class Figures:
    """What came of the kills of a scene."""

    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    restarts: int = 0
    results: int = 0
    identical: int = 0
    undisturbed: float = 0.0
    slowest: float = 0.0
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """All kills."""
        return sum(self.kills.values())


@dataclass(frozen=True)
class Reference:
    """An undisturbed command: what it leaves, what it ever renames into place, and how long it takes."""

    folder: Path
    known: Digests
    end: End
    real_seconds: float


class Bench:
    """Scenes in a folder of their own; every trial is in the same place, for files may hold their own path."""

    def __init__(self, folder: Path, seed: int, *, real: bool) -> None:
        self._folder, self._seed, self._real = folder, seed, real
        self._trial = folder / "trial"
        self._data = make_cohort(folder / "data", COHORT)
        self._references: dict[str, Reference] = {}
        self._expect_success(self._run(["prepare", str(self._data), "--workers", "1"]), "prepare")

    def scene(self, scene: Scene, kills: int) -> Figures:
        """Kill `scene` so many times."""
        began = time.monotonic()
        reference = self._reference(scene)
        found = Figures(undisturbed=reference.end.seconds)
        while found.total < kills:
            rng = random.Random(f"{self._seed} {scene.name} {found.results}")
            self._chain(scene, reference, min(rng.randint(1, 5), kills - found.total), rng, found)
        found.seconds = time.monotonic() - began
        return found

    def _chain(self, scene: Scene, reference: Reference, kills: int, rng: random.Random, found: Figures) -> None:
        """Kill the command some times in a row, then let it end."""
        words = self._begin(scene)
        for _ in range(kills):
            kind = rng.choices(KINDS, _weights(scene, real=self._real))[0]
            end = self._killed(words, kind, reference, rng)
            if end.status != -signal.SIGKILL:
                break  # it ended before its time had come
            found.kills[kind] += 1
            found.restarts += 1
            self._verify(scene, reference, kind)
        end = self._run(words)
        self._expect_success(end, scene.name)
        found.results += 1
        found.slowest = max(found.slowest, end.seconds)
        self._compare(scene, reference)
        found.identical += 1

    def _killed(self, words: list[str], kind: str, reference: Reference, rng: random.Random) -> End:
        moments, seconds = max(reference.end.moments, 1), reference.end.seconds
        if kind == "real":
            return _real(words, rng.uniform(0, reference.real_seconds))
        if kind in ("moment", "torn"):
            torn = rng.random() if kind == "torn" else 1.0
            return self._run(words, Kill(moment=rng.randint(1, moments), torn=torn))
        return self._run(words, Kill(rng.uniform(0, seconds), orphans=kind == "orphan"))

    def _run(self, words: list[str], kill: Kill = Kill(), **more: Callable[[Path, Path], None]) -> End:
        return fault_children.run(words, self._trial, kill, **more)

    def _begin(self, scene: Scene) -> list[str]:
        before = None if scene.begins_with is None else self._reference(_scene(scene.begins_with))
        shutil.rmtree(self._trial, ignore_errors=True)
        if before is not None:
            shutil.copytree(before.folder, self._trial)
        return scene.words(self._data, self._trial)

    def _reference(self, scene: Scene) -> Reference:
        if scene.name not in self._references:
            self._references[scene.name] = self._undisturbed(scene)
        return self._references[scene.name]

    def _undisturbed(self, scene: Scene) -> Reference:
        words, record = self._begin(scene), self._folder / "renamed.txt"
        record.unlink(missing_ok=True)

        def note(source: Path, target: Path) -> None:
            name = target.relative_to(self._trial).as_posix()
            with record.open("a") as file:
                file.write(f"{name} {digest(source, name)}\n")

        known: Digests = {name: {value} for name, value in contents(self._trial).items()}
        end = self._run(words, renamed=note)
        self._expect_success(end, scene.name)
        for line in record.read_text().splitlines():
            name, _, value = line.rpartition(" ")
            known.setdefault(name, set()).add(value)
        for name, value in contents(self._trial).items():
            known.setdefault(name, set()).add(value)  # of processes that were not listened to
        kept = self._folder / "undisturbed" / scene.name.replace(" ", "_")
        shutil.copytree(self._trial, kept)
        seconds = _real(self._begin(scene), None).seconds if self._real else 0.0
        return Reference(kept, known, end, seconds)

    def _verify(self, scene: Scene, reference: Reference, kind: str) -> None:
        found = _in_child(lambda: problems(self._trial, reference.known, reference.folder))
        if found:
            raise Violation(f"{scene.name}: after a kill ({kind}):\n  " + "\n  ".join(found))

    def _compare(self, scene: Scene, reference: Reference) -> None:
        ours, theirs = contents(self._trial), contents(reference.folder)
        differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        if differing:
            raise Violation(f"{scene.name}: the result differs in {', '.join(differing)}")

    def _expect_success(self, end: End, name: str) -> None:
        if end.status != 0:
            raise Violation(f"{name}: ended with status {end.status}:\n{end.said}")


def _scene(name: str) -> Scene:
    return next(scene for scene in SCENES if scene.name == name)


def _weights(scene: Scene, *, real: bool) -> Sequence[float]:
    """How often each kind of kill is drawn; workers of `prepare` are started anew, so their moments are not seen."""
    several = scene.name in ("prepare (2 workers)", "compare")
    listened = 0.0 if scene.name == "prepare (2 workers)" else 3.0
    return (4.0, 2.0 * several, listened, listened, float(real))


def _real(words: list[str], seconds: float | None) -> End:
    """The command as a user starts it, killed after so many seconds."""
    began = time.monotonic()
    command = [sys.executable, "-m", "semiseg.cli", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    return End(process.wait(), time.monotonic() - began, 0, "")


def _in_child(check: Callable[[], Iterator[str]]) -> list[str]:
    """What `check` finds, looked for in a child: reading may start threads, which the parent must not have."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            found = list(check())
        except BaseException as error:
            found = [f"{type(error).__name__}: {error}"]
        with os.fdopen(writing, "w") as file:
            json.dump(found, file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    os.waitpid(child, 0)
    answer: list[str] = json.loads(text)
    return answer


def main() -> None:
    """Kill every command, print a table, and exit with status 1 at the first violation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="over all commands")
    parser.add_argument("--quick", action="store_true", help="8 kills, one kind of each command, no real processes")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", nargs="*", choices=sorted({scene.command for scene in SCENES}), help="these commands")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--folder", type=Path, help="empty folder to work in; default: a temporary one")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    _import_all()
    scenes = [scene for scene in SCENES if not arguments.only or scene.command in arguments.only]
    if arguments.quick:
        scenes = [scene for scene in scenes if scene.name in QUICK]
    shares = _shares(scenes, 8 if arguments.quick else arguments.kills)
    began = time.monotonic()
    with _folder(arguments.folder) as folder:
        bench = Bench(folder, arguments.seed, real=not arguments.quick)
        print(f"{'command':22s} kills  {'  '.join(KINDS)}  restarts  identical  undisturbed  slowest   seconds")
        rows = {}
        for scene, kills in zip(scenes, shares, strict=True):
            found = rows[scene.name] = bench.scene(scene, kills)
            print(_row(scene.name, found), flush=True)
    total = sum(found.total for found in rows.values())
    ends = sum(found.identical for found in rows.values())
    seconds = time.monotonic() - began
    print(f"{total} kills, {ends} results, all identical to those of undisturbed commands; {seconds:.0f} s")
    if arguments.json:
        figures = {name: {**asdict(found), "total": found.total} for name, found in rows.items()}
        about = {"torch": torch.__version__, "python": sys.version.split()[0], "seed": arguments.seed}
        answer = {**about, "kills": total, "identical": ends, "seconds": seconds, "commands": figures}
        arguments.json.write_text(json.dumps(answer, indent=2) + "\n")


def _import_all() -> None:
    """Import whatever commands import when they get there, so that children find it."""
    import scipy.ndimage  # noqa: F401
    import torch._dynamo
    import torch.utils.tensorboard  # noqa: F401

    from semiseg.methods.base import registry

    registry()
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("the parent has threads: children of it could hang")


def _shares(scenes: Sequence[Scene], kills: int) -> list[int]:
    """Kills of each scene, in proportion to the weights, that add up to `kills`."""
    total, given, shares = sum(scene.weight for scene in scenes), 0, []
    for index in range(len(scenes)):
        upto = round(kills * sum(scene.weight for scene in scenes[: index + 1]) / total)
        shares.append(upto - given)
        given = upto
    return shares


def _row(name: str, found: Figures) -> str:
    kinds = "  ".join(f"{found.kills[kind]:{len(kind)}d}" for kind in KINDS)
    identical = f"{found.identical} of {found.results}"
    times = f"{found.undisturbed:11.1f}  {found.slowest:7.1f}  {found.seconds:8.0f}"
    return f"{name:22s} {found.total:5d}  {kinds}  {found.restarts:8d}  {identical:>9s}  {times}"


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """The folder to work in; it is kept when something is wrong."""
    folder = Path(tempfile.mkdtemp(prefix="semiseg-faults-")) if given is None else given.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except Violation as error:
        print(f"{error}\nThe files are in {folder}", file=sys.stderr)
        sys.exit(1)
    if given is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
