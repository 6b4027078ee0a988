"""Patches per second from the field's gzip HDF5 files, from the prepared store, and from the resident one.

    python benchmarks/feed.py [--quick] [--patch 112 112 80] [--json FILE] [--device cpu]

The field's loaders open an HDF5 file per sample, read the whole volume and its label, and crop; one worker process
does one sample after the other. Ours copy the same patches from memory maps, or gather them from a buffer on the
device; all of them end as tensors there. On a CPU the resident store is the memory maps that stay open: the operating
system keeps their pages. All volumes are in the page cache, so that the disk does not count. Times are CPU seconds of
one thread on a CPU, seconds on a GPU; rounds alternate. About a minute, ten seconds with --quick.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import h5py
import numpy as np
import torch

from devices import chosen
from semiseg.batches.feed import Feed, MappedFeed, Maps, ResidentFeed, Window, fill
from semiseg.training.timing import CLOCKS, alternating, ratio, seconds

SHAPE = (180, 150, 88)
"""A scan of the left atrium."""


class Volumes:
    """Scans in both layouts: gzip HDF5 with float32 images, as the field shares them, and float16 arrays as ours."""

    def __init__(self, folder: Path, count: int, shape: Sequence[int]) -> None:
        self.folder = folder
        self.cases = [f"case{number}" for number in range(count)]
        self.shape = tuple(shape)
        rng = np.random.default_rng(0)
        axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
        for case in self.cases:
            inside = sum((axis - rng.uniform(-0.3, 0.3)) ** 2 for axis in axes) < 0.2
            image = (inside + 0.3 * rng.standard_normal(shape)).astype(np.float16)
            np.save(folder / f"{case}.image.npy", image[None])
            np.save(folder / f"{case}.label.npy", inside.astype(np.uint8))
            with h5py.File(folder / f"{case}.h5", "w") as file:
                file.create_dataset("image", data=image.astype(np.float32), compression="gzip")
                file.create_dataset("label", data=inside.astype(np.uint8), compression="gzip")

    def image(self, case: str) -> np.ndarray:
        """As the prepared store gives it."""
        return np.load(self.folder / f"{case}.image.npy", mmap_mode="r")

    def label(self, case: str) -> np.ndarray:
        """As the prepared store gives it."""
        return np.load(self.folder / f"{case}.label.npy", mmap_mode="r")


def from_hdf5(volumes: Volumes, windows: Sequence[Window], patch: Sequence[int]) -> list[np.ndarray]:
    """The field's way: whole volumes, then a crop."""
    found = []
    for window in windows:
        with h5py.File(volumes.folder / f"{window.case}.h5", "r") as file:
            image, label = file["image"][:], file["label"][:]
        box = tuple(slice(c, c + side) for c, side in zip(window.corner, patch, strict=True))
        found += [image[box].astype(np.float32), label[box].astype(np.uint8)]
    return found


def from_maps(volumes: Volumes, windows: Sequence[Window], patch: Sequence[int]) -> list[np.ndarray]:
    """Memory maps that are opened for every patch."""
    found = []
    for window in windows:
        for volume in (volumes.image(window.case), volumes.label(window.case)[None]):
            found.append(np.empty((1, *patch), volume.dtype))
            fill(found[-1], volume, window.corner)
    return found


def delivered(arrays: Sequence[np.ndarray], device: torch.device) -> list[torch.Tensor]:
    """On the device, as a loop that trains there has them."""
    return [torch.from_numpy(array).to(device) for array in arrays]


def feeding(feed: Feed, windows: Sequence[Window], size: int) -> Callable[[], object]:
    """Batches of the product's feed."""

    def call() -> None:
        for start in range(0, len(windows), size):
            feed.deliver(feed.read(windows[start : start + size]))

    return call


def main() -> None:
    """Measure all ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patch", nargs=3, type=int, default=(112, 112, 80))
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--patches", type=int, default=40, help="per round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", choices=["auto", "cpu", "gpu"], default="auto")
    parser.add_argument("--quick", action="store_true", help="4 cases, 12 patches, 3 rounds")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.cases, arguments.patches, arguments.rounds = 4, 12, 3
    device = chosen(parser, arguments.device)
    on_cpu = device.type == "cpu"
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        volumes = Volumes(Path(folder), arguments.cases, SHAPE)
        calls = ways(volumes, tuple(arguments.patch), arguments.patches, device)
        measure = partial(seconds, device=device, clock=CLOCKS["cpu" if on_cpu else "wall"])
        took = alternating(calls, arguments.rounds, measure)
    rows = {
        name: {
            "patches_per_second": arguments.patches / median(spent),
            "ratio": ratio(took["gzip HDF5, whole volume"], spent),
        }
        for name, spent in took.items()
    }
    print(f"{device.type}, patches of {' x '.join(map(str, arguments.patch))} with labels, one thread\n")
    print("| from | patches/s | times HDF5 |\n|---|---|---|")
    for name, found in rows.items():
        print(f"| {name} | {found['patches_per_second']:.0f} | {found['ratio']:.1f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "command": sys.argv[1:]}, indent=2) + "\n")


def ways(volumes: Volumes, patch: tuple[int, ...], count: int, device: torch.device) -> dict[str, Callable[[], object]]:
    """The ways, slowest first; all give the same patches."""
    rng = np.random.default_rng(1)
    windows = [
        Window(
            str(rng.choice(volumes.cases)),
            tuple(int(rng.integers(n - p)) for n, p in zip(volumes.shape, patch, strict=True)),
            True,
        )
        for _ in range(count)
    ]
    mapped = MappedFeed(Maps(volumes), patch, device)  # type: ignore[arg-type]
    calls: dict[str, Callable[[], object]] = {
        "gzip HDF5, whole volume": lambda: delivered(from_hdf5(volumes, windows, patch), device),
        "memory maps, opened every time": lambda: delivered(from_maps(volumes, windows, patch), device),
        "memory maps that stay open (product)": feeding(mapped, windows, 4),
    }
    if device.type == "cuda":
        resident = ResidentFeed(volumes, volumes.cases, volumes.cases, patch, device)  # type: ignore[arg-type]
        calls["resident on the device (product)"] = feeding(resident, windows, 4)
    else:
        arrays = {case: (volumes.image(case).copy(), volumes.label(case)[None].copy()) for case in volumes.cases}
        calls["arrays in memory"] = lambda: [
            fill(np.zeros((1, *patch), volume.dtype), volume, window.corner)
            for window in windows
            for volume in arrays[window.case]
        ]
    return calls


if __name__ == "__main__":
    main()
