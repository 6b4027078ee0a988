"""Training steps of the papers' methods: ours beside plain ones, with patches per second, share of the floor, memory.

    python benchmarks/train.py [--quick] [--methods micd cml] [--patch 64 64 48] [--json FILE] [--device cpu]

Ours is a step of the engine as `semiseg train` takes it on this device: the batch from a prepared store, augmentation,
the method, backward, optimiser, moving averages, log. The plain one (`benchmarks/plain`) is the same step written from
the papers' code: eager, float32 (TF32 on a GPU where ours has `--precision tf32`, as the peaks then have), contiguous,
one network call per pass, a loop over parameters for moving averages, `.item()` at every step; it is handed ready
batches, in a process of its own, for neither shall pay for the memory that the other frees. V-Net with 16 filters, SGD,
batches of the left-atrium papers. Steps alternate; a ratio is the median over rounds. Real data cost a few hundredths
of a step, and two steps differ by more on most machines: quick steps are compared with those of a constant batch in
more rounds, and beside stands the mean time of batches alone, which is more than what a step waits for, as scans are
read while it computes. About 15 minutes on two cores, one with --quick.

On a machine that others use, `--threads 1 --clock cpu` counts the time that the process computes.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from apart import Apart
from devices import chosen, set_up
from plain.methods import METHODS
from semiseg.methods.base import entry
from semiseg.speed.floor import Ledger, Machine, measure_machine
from semiseg.speed.workbench import PAPERS, opened, phantom, settings
from semiseg.system.memory import reuse_freed_memory
from semiseg.training.execution import ExecutionMode, uncompiled
from semiseg.training.footprint import LiveBytes
from semiseg.training.timing import CLOCKS, alternating, ratio, seconds

BATCHES = {"supervised": (2, 0), "micd": (1, 1), "cml": (4, 4)}
"""Labelled and unlabelled patches where they are not 2 and 2."""

DATA_SECONDS = 40.0
"""Time for comparing real batches with a constant one."""
MOST_ROUNDS = 25
ALONE = 40
"""Batches of which the mean is taken, for what happens to one is drawn."""

OPTIONS = {
    **{name: {"ramp": "none"} for name in ("mean_teacher", "cps", "micd")},
    **{name: dict(entry(f"{name}-official").options) for name in ("ducisc", "cml")},
    "lefed": dict(entry("lefed-official").options),
}
"""Weights at the end of their ramps, and published code where a method departs from it, as in the plain steps."""


@dataclass(frozen=True)
class Row:
    """What was measured of one method; seconds are medians, memory is that of tensors made in a step, in GiB.

    `executed` says how ours was: layout, and what of it was compiled.
    """

    method: str
    patches: int
    plain: float
    ours: float
    fixed: float
    ratio: float
    data_share: float
    batch: float
    floor: float
    plain_memory: float
    memory: float
    executed: str

    @property
    def line(self) -> str:
        """A row of the table."""
        return (
            f"| {self.method} | {self.patches} | {self.plain:.2f} | {self.ours:.2f} | {self.ratio:.2f} "
            f"| {self.patches / self.ours:.2f} | {self.floor / self.ours:.0%} | {self.data_share:+.1%} "
            f"| {self.batch / self.fixed:.1%} "
            f"| {self.plain_memory:.2f} | {self.memory:.2f} | {self.executed} |"
        )


HEADING = (
    "| method | patches | plain, s | ours, s | ratio | ours, patches/s | of the floor | real data "
    "| batch alone | plain, GiB | ours, GiB | ours is |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Measure every method and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--patch", nargs=3, type=int, help="default: 112 112 80 on a GPU, 80 80 64 on a CPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of a CPU; default: all")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--device", choices=["auto", "cpu", "gpu"], default="auto")
    parser.add_argument("--precision", default="auto", help="of ours: auto, fp32, tf32 or bf16")
    parser.add_argument("--set", nargs="*", default=[], help="settings of ours, such as speed.compile=off")
    parser.add_argument("--quick", action="store_true", help="patches of 32 32 32 on a CPU")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = chosen(parser, arguments.device)
    on_cpu = device.type == "cpu"
    small = (32, 32, 32) if arguments.quick else (80, 80, 64)
    arguments.patch = tuple(arguments.patch or (small if on_cpu else (112, 112, 80)))
    if on_cpu:
        reuse_freed_memory()
    arguments.float32 = set_up(device, arguments.precision)
    machine = measure_machine(device, quick=arguments.quick, clock=CLOCKS[arguments.clock])
    print(describe(machine, device, arguments.patch))
    print(HEADING)
    with tempfile.TemporaryDirectory() as folder:
        data = phantom(Path(folder) / "data", [side + 16 for side in arguments.patch])
        rows = [row(name, data, Path(folder) / name, machine, arguments) for name in arguments.methods]
    found = median(each.ratio for each in rows)
    slowed, alone = median(each.data_share for each in rows), max(each.batch / each.fixed for each in rows)
    print(
        f"\nmedian method: {found:.2f} times the plain step; real data cost {slowed:+.1%} over a constant batch "
        f"(batches alone at most {alone:.1%})"
    )
    if arguments.json:
        figures = {"rows": [asdict(each) for each in rows], "median_ratio": found, "command": sys.argv[1:]}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def describe(machine: Machine, device: torch.device, patch: tuple[int, ...]) -> str:
    """The machine in a line."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    peaks = ", ".join(f"{str(kind).removeprefix('torch.')} {peak / 1e9:.0f}" for kind, peak in machine.flops.items())
    return (
        f"{device.type} ({name}), {platform.machine()}, torch {torch.__version__}; measured peaks: {peaks} GFLOP/s, "
        f"{machine.bandwidth / 1e9:.1f} GB/s; patches of {' x '.join(map(str, patch))}\n"
    )


def row(name: str, data: Path, folder: Path, machine: Machine, arguments: argparse.Namespace) -> Row:
    """Measure one method and print its row."""
    labelled, unlabelled = BATCHES.get(name, (2, 2))
    config = settings(
        data,
        name,
        options=OPTIONS.get(name, {}),
        batch={"labelled": labelled, "unlabelled": unlabelled, "patch": arguments.patch},
        accelerator=arguments.device,
        precision=arguments.precision,
        assignments=arguments.set,
        **PAPERS,
    )
    with opened(config, folder) as ours:
        device = ours.session.fabric.device
        batches = [ours.session.batches(step) for step in range(4)]
        with Apart(
            plain_steps,
            name,
            [(each.images.cpu(), each.labels.cpu()) for each in batches],
            device,
            torch.get_num_threads(),
            arguments.float32,
        ) as plain:
            plain_memory = plain(answer=True)[2]
            ours.fixed()
            memory = peak_memory(ours.fixed, device)
            with Ledger() as ledger:
                ours.fixed()
            calls = {"plain": plain, "ours": ours.real, "fixed": ours.fixed}
            measure = partial(spent, device=device, clock=arguments.clock)
            took = alternating(calls, arguments.rounds, measure)
            rounds = min(int(DATA_SECONDS / (2 * median(took["fixed"]))), MOST_ROUNDS)
            both = {key: calls[key] for key in ("ours", "fixed")}
            pairs = alternating(both, rounds, measure) if rounds > arguments.rounds else took
            alone = spent(partial(make_batches, ours.session.batches), device, arguments.clock) / ALONE
    found = Row(
        name,
        len(ours.constant.images),
        median(took["plain"]),
        median(took["ours"]),
        median(took["fixed"]),
        ratio(took["plain"], took["ours"]),
        ratio(pairs["ours"], pairs["fixed"]) - 1,
        alone,
        machine.floor(ledger.works),
        plain_memory,
        memory,
        executed(ours.session.choice.mode),
    )
    print(found.line, flush=True)
    return found


def executed(mode: ExecutionMode) -> str:
    """How ours was executed, as it really was."""
    if not (mode.compile or mode.losses) or not (left := uncompiled()):
        return mode.words
    return f"{mode.words}, but {left} pieces of code are not"


def make_batches(batches: Callable[[int], object]) -> None:
    """Batches, one after the other, without steps between them."""
    for step in range(ALONE):
        batches(step)


def spent(call: Apart | Callable[[], object], device: torch.device, clock: str) -> float:
    """Seconds of a step, here or in its own process; both wait for the device, the plain one by its `.item()`."""
    if isinstance(call, Apart):
        return call()[clock == "cpu"]
    return seconds(call, device, CLOCKS[clock])


def plain_steps(
    name: str, batches: list[tuple[Tensor, Tensor]], device: torch.device, threads: int, float32: str
) -> Callable[[], float]:
    """A call that takes the next step of the plain implementation, and returns the GiB that one takes at its peak."""
    torch.set_num_threads(threads)
    set_up(device, float32)
    with device:
        method = METHODS[name]()
    for net in method.nets:
        net.to(device).train()
    ready = cycle([(images.contiguous().to(device), labels.to(device)) for images, labels in batches])

    def step() -> float:
        with device:
            return method.step(*next(ready))

    step()
    memory = peak_memory(step, device)

    def call() -> float:
        step()
        return memory

    return call


def peak_memory(call: Callable[[], object], device: torch.device) -> float:
    """GiB of tensors that a call makes, at its peak."""
    if device.type == "cuda":
        call()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**30
    with LiveBytes() as live:
        call()
    return live.peak / 2**30


if __name__ == "__main__":
    main()
