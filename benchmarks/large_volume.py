"""Seconds and peak memory of the commands on volumes as large as a CT (512 x 512 x 300, int16), generated here.

    python benchmarks/large_volume.py [--cases 2] [--json FILE]

Every command runs in a process of its own; the peak is the largest sum of resident memory over it and its children,
looked at every 20 ms (Linux). Pages that processes share count once per process, so the figure errs upwards.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE, SPACING = (512, 512, 300), (0.7, 0.7, 1.5)


@dataclass(frozen=True)
class Measured:
    """One command: wall-clock seconds and peak memory of its process tree in GiB."""

    name: str
    seconds: float
    gibibytes: float


def main() -> None:
    """Generate the volumes, run every command, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2, help="number of volumes")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_dataset(data, arguments.cases)
        figures = [
            prepare(data),
            prepare_again(data),
            predict(data, Path(folder)),
            prepare_resampled(data),
        ]
    print(f"{arguments.cases} volumes of {' x '.join(map(str, SHAPE))}, {os.cpu_count()} cores")
    for figure in figures:
        print(f"{figure.name:40s} {figure.seconds:8.1f} s {figure.gibibytes:8.2f} GiB")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")


def prepare(data: Path) -> Measured:
    """`semiseg prepare` at the volumes' own spacing."""
    return measure("prepare", ["prepare", str(data)])


def prepare_again(data: Path) -> Measured:
    """The same once more: nothing has changed."""
    return measure("prepare, nothing changed", ["prepare", str(data)])


def prepare_resampled(data: Path) -> Measured:
    """Every volume resampled to 1 mm, for which the plan is edited."""
    plan = json.loads((data / "prepared" / "plan.json").read_text())
    edited = data / "edited.json"
    edited.write_text(json.dumps(plan | {"spacing": [1.0, 1.0, 1.0]}))
    return measure("prepare, plan edited to 1 mm", ["prepare", str(data), "--plan", str(edited)])


def predict(data: Path, folder: Path) -> Measured:
    """`semiseg predict` of one volume with the default network and patch, after a training of one step."""
    prepare(data)  # back from the edited plan, on which nothing depends below
    run = str(folder / "run")
    settings = ["--method", "supervised", "--labelled", "1", "--steps", "1", "--output", run]
    measure("train", ["train", str(data), *settings])
    scan = str(data / "imagesTr" / "case0_0000.nii.gz")
    return measure("predict, one volume", ["predict", run, scan, "--output", str(folder / "out")])


def measure(name: str, command: Sequence[str]) -> Measured:
    """Run the command line with `command` and watch it."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", "from semiseg.cli import main; main()", *command], stdout=subprocess.DEVNULL
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{name} ended with status {process.returncode}")
    return Measured(name, time.perf_counter() - start, peak / 2**30)


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


def write_dataset(root: Path, cases: int) -> None:
    """CT-like volumes, the first of them labelled."""
    (root / "imagesTr").mkdir(parents=True)
    (root / "labelsTr").mkdir()
    description = {
        "name": "LargeCT",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "spine": 2},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(description))
    for case in range(cases):
        image, label = abdomen(case)
        save(root / "imagesTr" / f"case{case}_0000.nii.gz", image)
        if case == 0:
            save(root / "labelsTr" / f"case{case}.nii.gz", label)


def abdomen(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A body in air with a liver and a spine: Hounsfield units (int16) and classes (uint8)."""
    rng = np.random.default_rng(seed)
    x, y, z = np.ogrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j, -1 : 1 : SHAPE[2] * 1j]
    body = (x / 0.97) ** 2 + (y / 0.97) ** 2 + 0 * z < 1
    liver = ((x + 0.3) / 0.35) ** 2 + (y / 0.35) ** 2 + (z / 0.5) ** 2 < 1
    spine = (x / 0.1) ** 2 + ((y - 0.4) / 0.1) ** 2 + 0 * z < 1
    image = np.full(SHAPE, -1000, np.int16)
    image[body], image[liver], image[spine] = -20, 60, 400
    image += (15 * rng.standard_normal(SHAPE, dtype=np.float32)).astype(np.int16)
    return np.maximum(image, -1024), (liver + 2 * spine).astype(np.uint8)


def save(path: Path, array: np.ndarray) -> None:
    """Write `array` with the spacing and the orientation (towards left, posterior, superior) usual for CT."""
    image = nib.Nifti1Image(array, np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


if __name__ == "__main__":
    main()
