"""`semiseg bench`: what a training step costs on this machine, what holds it up, and how far it is from the floor."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn import functional as F

from semiseg.runs.device import choose_device, device_name
from semiseg.runs.precision import autocast, channels_last
from semiseg.settings.run import RunConfig
from semiseg.speed.floor import Ledger, measure_machine
from semiseg.speed.workbench import PAPERS, Steps, opened, phantom, settings
from semiseg.training.execution_choice import LONG
from semiseg.training.session import Session
from semiseg.training.timing import alternating, ratio, seconds, synchronise

DATA_BOUND = 0.1
"""Share of a step that its data may cost before they are what holds it up."""
HOST_BOUND = 0.9
"""Share of a step that the host may need to tell a GPU what to do, before that is what holds the step up."""
WARN = 1.1
"""How much faster the other layout must be to be worth a line."""


@dataclass(frozen=True)
class Bench:
    """What was found; times in seconds, medians over rounds.

    Attributes:
        device: its name.
        precision: number format of the passes.
        networks: how they are executed, and why.
        scans: where batches come from.
        method: what was trained.
        patches: of a step, over all processes, and `patch` their sides.
        real: a step with its own batch; `fixed`: with a batch that is on the device already.
        data_share: what real data cost on top of a step, as a share of it.
        forward, backward, update: parts of a step.
        convolution: a 3x3x3 convolution forwards and backwards by layout.
        gigaflops: measured peaks by number format; `gigabytes`: measured bandwidth; both per second.
        floor: least seconds of the step's convolutions and normalisations at these peaks.
        launches: operations in a step; on a GPU also `host`, seconds until all were issued, and `waits`, how often the
            host waited for the device.
    """

    device: str
    precision: str
    processes: int
    networks: str
    scans: str
    method: str
    patches: int
    patch: tuple[int, ...]
    real: float
    fixed: float
    data_share: float
    forward: float
    backward: float
    update: float
    convolution: dict[str, float]
    gigaflops: dict[str, float]
    gigabytes: float
    floor: float
    launches: int
    host: float | None
    waits: int | None

    @property
    def verdict(self) -> str:
        """What holds the step up, in a line."""
        of_floor = f"{self.floor / self.fixed:.0%} of the floor"
        if self.data_share > DATA_BOUND:
            return f"data bound: real batches cost {self.data_share:+.0%} of a step; without them {of_floor}"
        if self.host is not None and self.host > HOST_BOUND * self.fixed:
            if self.waits:
                return f"synchronisation bound: the host waits for the GPU {self.waits} times in a step; {of_floor}"
            return f"launch bound: the GPU waits for {self.launches} operations to be issued; {of_floor}"
        return f"compute bound: {of_floor}; real batches cost {self.data_share:+.1%} of a step"

    def report(self) -> str:
        """Everything, for people; the verdict comes last."""
        peaks = ", ".join(f"{kind} {peak:.0f}" for kind, peak in self.gigaflops.items())
        layouts = ", ".join(f"{layout} {1000 * took:.1f} ms" for layout, took in self.convolution.items())
        shares = "processes" if self.processes > 1 else "process"
        lines = [
            f"{self.device}, {self.precision}, {self.processes} {shares}, torch {torch.__version__}",
            f"measured peaks: {peaks} GFLOP/s; {self.gigabytes:.1f} GB/s",
            f"one Conv3d forwards and backwards: {layouts}",
            f"{self.networks}; {self.scans}",
            f"{self.method}, {self.patches} patches of {' x '.join(map(str, self.patch))}: "
            f"{self.patches / self.real:.2f} patches/s",
            f"step {1000 * self.real:.0f} ms, with a constant batch {1000 * self.fixed:.0f} ms: forward "
            f"{1000 * self.forward:.0f}, backward {1000 * self.backward:.0f}, update {1000 * self.update:.0f}; "
            f"floor {1000 * self.floor:.0f} ms",
        ]
        if self.host is not None:
            lines.append(
                f"{self.launches} operations, issued in {1000 * self.host:.0f} ms; the host waits {self.waits} times"
            )
        if (warning := self._layout_warning()) is not None:
            lines.append(warning)
        return "\n".join([*lines, self.verdict])

    def _layout_warning(self) -> str | None:
        fast, slow = sorted(self.convolution, key=lambda layout: self.convolution[layout])
        gain = self.convolution[slow] / self.convolution[fast]
        if gain < WARN or self.networks.removeprefix("networks: ").startswith(fast):
            return None
        return (
            f"warning: {fast} convolutions alone are {gain:.1f} times as fast here; the whole network counts, try "
            f"--set speed.layout={fast.replace(' ', '_')}"
        )

    def values(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {**asdict(self), "patches_per_second": self.patches / self.real, "verdict": self.verdict}


def bench(
    data: Path | None = None,
    method: str = "mean_teacher",
    *,
    quick: bool = False,
    assignments: Sequence[str] = (),
    **wishes: Any,
) -> Bench:
    """Measure steps of `method` on `data`, or on generated scans with the V-Net of the left-atrium papers.

    Args:
        data: dataset folder; it is prepared where that is not done yet.
        method: what is trained.
        quick: small patches of generated scans, few rounds, layouts and compilation as they are by default.
        assignments: settings, `batch.patch=[96, 96, 96]`.
        wishes: further fields of `RunConfig`.

    Raises:
        InputError: settings or data are not usable.
    """
    with tempfile.TemporaryDirectory(prefix="semiseg_bench_") as folder:
        config = _config(data, method, Path(folder), quick, assignments, wishes)
        with opened(config, Path(folder) / "run") as steps:
            return measure(steps, quick=quick)


def _config(
    data: Path | None, method: str, folder: Path, quick: bool, assignments: Sequence[str], wishes: dict[str, Any]
) -> RunConfig:
    if quick:
        wishes = {"steps": LONG - 1, **wishes}
    if data is not None:
        return settings(data, method, assignments, **wishes)
    on_gpu = choose_device(wishes.get("accelerator", "auto")).type == "cuda"
    patch = (112, 112, 80) if on_gpu else (32, 32, 32) if quick else (64, 64, 48)
    batch = {"labelled": 2, "unlabelled": 2, "patch": patch}
    made = phantom(folder / "data", [side + 16 for side in patch], 2, 2)
    return settings(made, method, assignments, **{**PAPERS, "batch": batch, **wishes})


def measure(steps: Steps, *, quick: bool = False) -> Bench:
    """Measure steps of an open session."""
    session = steps.session
    device, rounds = session.fabric.device, 3 if quick else 7
    machine = measure_machine(device, quick=quick)
    convolution = _convolution(device, session.precision, rounds)
    steps.fixed()
    with Ledger() as ledger:
        steps.fixed()
    took = alternating({"real": steps.real, "fixed": steps.fixed}, rounds, partial(seconds, device=device))
    forward, backward = _parts(steps, rounds)
    fixed = median(took["fixed"])
    on_gpu = device.type == "cuda"
    return Bench(
        device_name(device),
        session.precision,
        session.fabric.world_size,
        session.choice.note,
        session.batches.note,
        session.config.method,
        len(steps.constant.images) * session.fabric.world_size,
        session.batches.patch,
        median(took["real"]),
        fixed,
        ratio(took["real"], took["fixed"]) - 1,
        forward,
        backward,
        max(fixed - forward - backward, 0.0),
        convolution,
        {str(kind).removeprefix("torch."): peak / 1e9 for kind, peak in machine.flops.items()},
        machine.bandwidth / 1e9,
        machine.floor(ledger.works),
        ledger.launches,
        _host_seconds(steps, rounds) if on_gpu else None,
        _waits(steps) if on_gpu else None,
    )


class _Timed:
    """Adds up the seconds of calls of `call`."""

    def __init__(self, call: Callable[..., Any], device: torch.device) -> None:
        self._call, self._device = call, device
        self.spent = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        found: list[Any] = []
        self.spent += seconds(lambda: found.append(self._call(*args, **kwargs)), self._device)
        return found[0]


class _TimedFabric:
    """A Fabric whose backward is timed."""

    def __init__(self, session: Session) -> None:
        self._fabric = session.fabric
        self.backward = _Timed(session.fabric.backward, session.fabric.device)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fabric, name)


def _parts(steps: Steps, rounds: int) -> tuple[float, float]:
    """Seconds of the forward and of the backward passes of a step."""
    whole, parts = steps.session, []
    for _ in range(rounds):
        forward, fabric = _Timed(whole.stepper, whole.fabric.device), _TimedFabric(whole)
        steps.session = replace(whole, stepper=forward, fabric=fabric)  # type: ignore[arg-type]
        steps.fixed()
        parts.append((forward.spent, fabric.backward.spent))
    steps.session = whole
    return median(forward for forward, _ in parts), median(backward for _, backward in parts)


def _convolution(device: torch.device, precision: str, rounds: int) -> dict[str, float]:
    """Seconds of one 3x3x3 convolution, forwards and backwards, by layout: installations differ widely in it."""
    side = 32 if device.type == "cpu" else 96
    calls: dict[str, Callable[[], object]] = {}
    for name, layout in (("contiguous", torch.contiguous_format), ("channels last", channels_last(3))):
        x = torch.randn(2, 32, side, side, side, device=device).to(memory_format=layout).requires_grad_()
        w = torch.randn(32, 32, 3, 3, 3, device=device).to(memory_format=layout).requires_grad_()
        calls[name] = partial(_convolve, x, w, precision)
    return {name: median(spent) for name, spent in alternating(calls, rounds, partial(seconds, device=device)).items()}


def _convolve(x: torch.Tensor, w: torch.Tensor, precision: str) -> None:
    with autocast(x.device, precision):
        y = F.conv3d(x, w, padding=1)
    torch.autograd.grad(y, (x, w), torch.ones_like(y))


def _host_seconds(steps: Steps, rounds: int) -> float:
    """Seconds until a step has been issued to an idle GPU."""
    device, spent = steps.session.fabric.device, []
    for _ in range(rounds):
        synchronise(device)
        spent.append(seconds(steps.fixed, torch.device("cpu")))
    synchronise(device)
    return median(spent)


def _waits(steps: Steps) -> int:
    """How often the host waits for the GPU in a step."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            steps.fixed()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in found)
