"""What `plan.json` says of the memory of a training step, against real steps on this CPU (Linux).

    python benchmarks/plan_memory.py [--steps 3] [--only NAME ...] [--json FILE]

Every setting runs in a process of its own with one thread: after a step of a small patch, which loads what is loaded
only once, the peak of the resident memory over the following steps is taken, less what was resident before the network
was built. A step is supervised training on all patches: forward, backward, clipping, AdamW.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from semiseg.batches.batch import Batch
from semiseg.methods.base import Clock, Task, entry
from semiseg.networks import build_network
from semiseg.runs.precision import autocast, memory_format, set_memory_format
from semiseg.settings.run import OptimiserConfig
from semiseg.training.footprint import footprint
from semiseg.training.optim import guarded_step, make_optimiser

DEEP = {"filters": [16, 32, 64, 128, 256]}
THICK = {**DEEP, "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2]]}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Setting:
    """A network and its patches."""

    name: str
    network: str
    patch: tuple[int, ...]
    patches: int
    classes: int = 2
    options: dict[str, Any] = field(default_factory=dict)
    precision: str = "fp32"

    @property
    def build(self) -> Callable[[], Any]:
        """Makes the network."""
        return partial(
            build_network,
            self.network,
            channels=1,
            classes=self.classes,
            spatial_dims=len(self.patch),
            **self.options,
        )


SETTINGS = (
    Setting("2d", "unet", (256, 224), 8, 4, DEEP),
    Setting("unet2d", "unet2d", (256, 256), 4, 4),
    Setting("small3d", "unet", (40, 56, 40), 4, 3, {"filters": [16, 32, 64, 128]}),
    Setting("isotropic3d", "unet", (64, 64, 64), 2, 2, DEEP),
    Setting("thick3d", "unet", (128, 128, 16), 2, 2, THICK),
    Setting("vnet", "vnet", (80, 80, 64), 2, 2),
    Setting("default3d", "unet", (96, 96, 96), 2, 2, DEEP),
)


def main() -> None:
    """Measure every setting in both precisions and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3, help="training steps per setting")
    parser.add_argument("--only", nargs="*", choices=[setting.name for setting in SETTINGS], help="these settings")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        values = json.loads(arguments.measure)
        print(measure(Setting(**values | {"patch": tuple(values["patch"])}), arguments.steps))
        return
    rows = []
    print(f"{'setting':14s} {'patches':20s} {'':5s} estimate  measured GiB  ratio")
    for setting in SETTINGS:
        if arguments.only and setting.name not in arguments.only:
            continue
        for precision in ("fp32", "bf16"):
            rows.append(row(Setting(**vars(setting) | {"precision": precision}), arguments.steps))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


def row(setting: Setting, steps: int) -> dict[str, Any]:
    """Estimate and measurement of a setting, printed as a line of the table."""
    estimate = footprint(setting.build, (setting.patches, 1, *setting.patch), setting.precision).total() / 2**30
    command = [sys.executable, __file__, "--steps", str(steps), "--measure", json.dumps(asdict(setting))]
    measured = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 2**30
    shape = f"{setting.patches} of {' x '.join(map(str, setting.patch))}"
    ratio = estimate / measured
    print(
        f"{setting.name:14s} {shape:20s} {setting.precision} {estimate:8.2f}  {measured:12.2f}  {ratio:5.2f}",
        flush=True,
    )
    return {"name": setting.name, "precision": setting.precision, "estimate": estimate, "measured": measured}


def measure(setting: Setting, steps: int) -> int:
    """Bytes that real steps add to the resident memory of this process at their peak."""
    torch.set_num_threads(1)
    train(setting, tuple(2 * side for side in setting.build().divisor), 1)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    train(setting, setting.patch, steps)
    return resident("VmHWM") - before


def train(setting: Setting, patch: tuple[int, ...], steps: int) -> None:
    """Supervised steps on noise, as the engine does them."""
    layout = memory_format(CPU, len(patch))
    task = Task(setting.classes, 1, len(patch), (1000,) * setting.classes)
    method = entry("supervised").build({}, task, setting.build).train()
    set_memory_format(method, layout)
    config = OptimiserConfig()
    optimiser = make_optimiser(config, method.groups()["main"])
    for step in range(steps):
        images = torch.randn(setting.patches, 1, *patch).to(memory_format=layout)
        labels = torch.randint(setting.classes, (setting.patches, *patch))
        with autocast(CPU, setting.precision):
            total = next(method.step(Batch(images, labels), Clock(step, steps, step, steps))).total
        optimiser.zero_grad()
        total.backward()
        guarded_step(optimiser, total, config.clip)


def resident(name: str) -> int:
    """Bytes of resident memory: `VmRSS` now, `VmHWM` at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


if __name__ == "__main__":
    main()
