"""Peak memory of the commands for growing volumes and numbers of classes: what grows, and whether the bounds hold.

    python benchmarks/memory.py [--quick] [--volume X Y Z --classes C] [--json FILE]

Volumes like a CT's (int16, air around a body) are generated, from 64 x 64 x 64 to 512 x 512 x 600 voxels. Every command
runs in a process of its own; the peak is the largest sum of resident memory over it and its children, looked at every
20 ms (Linux). Pages that processes share count once per process, and mapped files count, so the figure errs upwards.
The network is tiny (4 and 8 filters, patches of 64 x 64 x 64), so that what grows is the data. `busy` is the share of
all cores that the command kept busy, which means something on an idle machine only.

The bounds (docs/speed.md) are those of `BOUNDS`; exits with status 1 when one does not hold. About 15 minutes on two
cores, 5 with --quick (up to 128 x 128 x 128).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

import nibabel as nib
import numpy as np
import yaml

from semiseg.prediction.predict import MOST_AHEAD

Shape = tuple[int, int, int]

SHAPES: tuple[Shape, ...] = ((64, 64, 64), (128, 128, 128), (256, 256, 256), (512, 512, 300), (512, 512, 600))
CLASSES = (2, 15, 105)
SIDE = 64
SPACING = (0.7, 0.7, 1.5)
COARSER = 1.4
"""How many times as large the voxels are on the network's grid where scans are resampled."""
GIB = 2**30


@dataclass(frozen=True)
class Setting:
    """A volume, its classes, and how many of them are worked on at a time."""

    shape: Shape
    classes: int = 3
    workers: int = 1

    @property
    def volume(self) -> float:
        """GiB of the volume as float32."""
        return 4 * prod(self.shape) / GIB

    @property
    def slabs(self) -> float:
        """GiB of the probabilities under the windows of one row, and of four copies of a batch of four windows."""
        section = max(self.shape[1], SIDE) * max(self.shape[2], SIDE)
        return 4 * self.classes * (SIDE * section + 16 * SIDE**3) / GIB


BOUNDS: dict[str, Callable[[Setting], float]] = {
    "prepare": lambda s: s.workers * (2 + 3 * s.volume),
    "prepare, resampled": lambda s: s.workers * (2 + 3 * s.volume),
    "train": lambda s: 2 + 2 * s.volume,
    "predict": lambda s: 1.5 + 5 * s.volume * (1 + (prod(s.shape) <= MOST_AHEAD)) + s.slabs,
    "predict, resampled": lambda s: 1.5 + 5 * s.volume * (1 + (prod(s.shape) <= MOST_AHEAD)) + s.slabs,
}
"""GiB that a command may take at its peak."""


@dataclass(frozen=True)
class Row:
    """One command: seconds, share of the cores that was busy, GiB at the peak, and the bound."""

    command: str
    shape: Shape
    classes: int
    seconds: float
    busy: float
    gib: float
    bound: float


def main() -> None:
    """Run every command on every volume and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small volumes only")
    parser.add_argument("--volume", nargs=3, type=int, metavar=("X", "Y", "Z"), help="this one alone")
    parser.add_argument("--classes", type=int, default=3, help="with --volume")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    print("| command | volume | classes | seconds | busy | peak, GiB | bound, GiB |\n|---|---|---|---|---|---|---|")
    rows = []
    for setting in chosen(arguments):
        with tempfile.TemporaryDirectory() as folder:
            rows += [shown(row) for row in commands(Path(folder), setting)]
    if not arguments.volume:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(shown(cohort(Path(folder), SHAPES[1 if arguments.quick else 2])))
    broken = [row for row in rows if row.gib > row.bound]
    print(f"\n{len(broken)} of {len(rows)} bounds do not hold" if broken else f"\nall {len(rows)} bounds hold")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    sys.exit(bool(broken))


def chosen(arguments: argparse.Namespace) -> list[Setting]:
    """What is asked for: one volume, or growing volumes and growing numbers of classes."""
    if arguments.volume:
        x, y, z = arguments.volume
        return [Setting((x, y, z), arguments.classes)]
    shapes = SHAPES[: 2 if arguments.quick else None]
    return [*map(Setting, shapes), *(Setting(SHAPES[1], classes) for classes in CLASSES)]


def shown(row: Row) -> Row:
    """The row, printed."""
    volume = " x ".join(map(str, row.shape))
    mark = "" if row.gib <= row.bound else " **broken**"
    print(
        f"| {row.command} | {volume} | {row.classes} | {row.seconds:.1f} | {row.busy:.0%} | {row.gib:.2f} "
        f"| {row.bound:.2f}{mark} |",
        flush=True,
    )
    return row


def commands(folder: Path, setting: Setting) -> Iterator[Row]:
    """Prepare, train and predict two cases, at their own spacing and resampled."""
    data = write_dataset(folder / "data", setting, cases=2)
    scans = folder / "scans"
    scans.mkdir()
    for name in ("a", "b"):  # two, so that one is read while the other is predicted
        (scans / f"{name}_0000.nii.gz").symlink_to(data / "imagesTr" / "case0_0000.nii.gz")
    yield measured("prepare", setting, ["prepare", str(data), "--workers", "1"])
    for kind in ("", ", resampled"):
        prepared = data / "prepared"
        if kind:
            edited = folder / "edited.json"
            plan = json.loads((prepared / "plan.json").read_text())
            edited.write_text(json.dumps(plan | {"spacing": [COARSER * side for side in plan["spacing"]]}))
            prepared = data / "resampled"
            words = ["prepare", str(data), "--prepared", str(prepared), "--plan", str(edited), "--workers", "1"]
            yield measured("prepare, resampled", setting, words)
        run = folder / f"run{len(kind)}"
        trained = measured("train", setting, ["train", "--config", str(config(data, prepared)), "--output", str(run)])
        if not kind:
            yield trained
        words = ["predict", str(run), str(scans), "--output", str(folder / "out"), "--overlap", "0"]
        yield measured("predict" + kind, setting, [*words, "--accelerator", "cpu"])


def cohort(folder: Path, shape: Shape) -> Row:
    """Prepare several volumes with a worker per core."""
    workers = len(os.sched_getaffinity(0))
    setting = Setting(shape, workers=workers)
    data = write_dataset(folder / "data", setting, cases=6 * workers)
    return measured("prepare", setting, ["prepare", str(data), "--workers", str(workers)])


def config(data: Path, prepared: Path) -> Path:
    """Settings of a training of one step with a tiny network."""
    path = data.parent / f"{prepared.name}.yaml"
    values = {
        "data": str(data),
        "prepared": str(prepared),
        "method": "supervised",
        "labelled": 1,
        "steps": 1,
        "accelerator": "cpu",
        "batch": {"patch": [SIDE] * 3},
        "network": {"options": {"filters": [4, 8], "strides": [[1, 1, 1], [2, 2, 2]]}},
    }
    path.write_text(yaml.safe_dump(values))
    return path


def measured(name: str, setting: Setting, command: Sequence[str]) -> Row:
    """Run the command line with `command` and watch it."""
    start, used = time.perf_counter(), used_by_children()
    process = subprocess.Popen(
        [sys.executable, "-m", "semiseg.cli", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.02)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{name} ended with status {process.returncode}:\n{process.stderr.read()}")
    busy = (used_by_children() - used) / seconds / len(os.sched_getaffinity(0))
    return Row(name, setting.shape, setting.classes, seconds, busy, peak / GIB, BOUNDS[name](setting))


def used_by_children() -> float:
    """Seconds that ended child processes, and theirs, have computed."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def resident(pid: int) -> int:
    """Bytes of resident memory of a process and all its descendants."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident(child) for child in children)


def write_dataset(root: Path, setting: Setting, cases: int) -> Path:
    """CT-like volumes, the first two of them labelled."""
    (root / "imagesTr").mkdir(parents=True)
    (root / "labelsTr").mkdir()
    description = {
        "name": "Volumes",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0} | {f"organ{label}": label for label in range(1, setting.classes)},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(description))
    for case in range(cases):
        image, label = body(setting, case)
        save(root / "imagesTr" / f"case{case}_0000.nii.gz", image)
        if case < 2:
            save(root / "labelsTr" / f"case{case}.nii.gz", label)
    return root


def body(setting: Setting, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A body in air with organs in a square grid: Hounsfield units (int16) and classes (uint8)."""
    rng = np.random.default_rng(seed)
    x, y, z = np.ogrid[tuple(slice(-1, 1, side * 1j) for side in setting.shape)]
    inside = (x / 0.97) ** 2 + (y / 0.97) ** 2 + 0 * z < 1
    organs, side = setting.classes - 1, math.isqrt(setting.classes - 2) + 1
    across, along = (((axis / 0.6 + 1) / 2 * side).astype(np.int16) for axis in (x, y))
    within = (np.abs(x) < 0.6) & (np.abs(y) < 0.6) & (np.abs(z) < 0.7)
    label = np.where(within, 1 + (across * side + along) * organs // side**2, 0).astype(np.uint8)
    image = np.full(setting.shape, -1000, np.int16)
    image[inside] = -20
    image += label
    image += rng.integers(-25, 26, setting.shape, dtype=np.int16)
    return image, label


def save(path: Path, array: np.ndarray) -> None:
    """Write `array` with the spacing and the orientation (towards left, posterior, superior) usual for CT."""
    image = nib.Nifti1Image(array, np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


if __name__ == "__main__":
    main()
