"""Metrics of pairs of masks: ours beside medpy's, in paired alternating runs, and largest components.

    python benchmarks/scores.py [--quick] [--rounds 9] [--clock cpu|wall] [--json FILE]

Ours are all metrics in voxels and in mm (Dice, Jaccard, 95HD, HD, ASD in both directions, ASSD) by one call; medpy's
are the four that papers report, in one unit. Pairs are jittered ellipsoids of the sizes of the benchmarks, and, where
SEMISEG_TEST_DATA names the papers' data, real labels of the left atrium against moved ones. Both do with one thread;
the clock counts the time that the process computes. About one minute, half of it with --quick.

Exits with status 1 when a metric differs by more than 1e-6, or the ratio is below 4 (left atrium) or 20 (BraTS).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from medpy.metric import binary
from numpy.typing import NDArray
from scipy import ndimage

from semiseg.metrics import surfaces
from semiseg.metrics.mask_scores import score_masks
from semiseg.scans import components
from semiseg.scans.components import largest_component
from semiseg.training.timing import CLOCKS, alternating, ratio, seconds

Mask = NDArray[np.bool_]
TOLERANCE = 1e-6
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Pair:
    """A prediction and a truth, and how many times as fast as medpy we want to be."""

    name: str
    prediction: Mask
    truth: Mask
    spacing: tuple[float, ...]
    wanted: float = 0.0


@dataclass(frozen=True)
class Row:
    """Milliseconds, their ratio, the largest difference of a metric, and whether all is as it should be."""

    name: str
    medpy: float
    ours: float
    ratio: float
    difference: float
    kept: bool


def main() -> None:
    """Measure every pair and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--clock", choices=list(CLOCKS), default="cpu")
    parser.add_argument("--quick", action="store_true", help="three rounds")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    rounds, clock = 3 if arguments.quick else arguments.rounds, arguments.clock
    extras = {"edt": surfaces.edt is not None, "cc3d": components.cc3d is not None}
    print(f"installed: {', '.join(name for name, there in extras.items() if there) or 'neither edt nor cc3d'}\n")
    print(f"| masks | medpy, ms ({clock}) | ours, ms | times as fast | largest difference |\n|---|---|---|---|---|")
    chosen = [*generated(), *real(2)]
    rows = [row(pair, rounds, clock) for pair in chosen]
    print("\n| largest component | scipy, ms | with cc3d, ms | times as fast |\n|---|---|---|---|")
    parts = [component_row(pair, rounds, clock) for pair in chosen[:2] if extras["cc3d"]]
    if arguments.json:
        figures = {"scores": [asdict(each) for each in rows], "components": parts, "extras": extras}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(not all(each.kept for each in rows))


def row(pair: Pair, rounds: int, clock: str) -> Row:
    """Measure one pair and print its row."""
    masks = pair.prediction, pair.truth
    calls = {
        "medpy": lambda: [measure(*masks) for measure in (binary.dc, binary.jc, binary.hd95, binary.asd)],
        "ours": lambda: score_masks(*masks, pair.spacing),
    }
    took = alternating(calls, rounds, partial(seconds, device=CPU, clock=CLOCKS[clock]))
    difference = largest_difference(pair)
    found = ratio(took["medpy"], took["ours"])
    kept = difference <= TOLERANCE and found >= pair.wanted
    made = Row(pair.name, *(1e3 * median(took[name]) for name in calls), found, difference, kept)
    wanted = f" (wanted: {pair.wanted:g})" if pair.wanted else ""
    print(f"| {made.name} | {made.medpy:.0f} | {made.ours:.1f} | {found:.1f}{wanted} | {difference:.0e} |", flush=True)
    return made


def largest_difference(pair: Pair) -> float:
    """Over Dice, Jaccard, 95HD and ASD, in voxels and mm."""
    masks = pair.prediction, pair.truth
    ours = score_masks(*masks, pair.spacing)
    found = [ours["dice"] - binary.dc(*masks), ours["jaccard"] - binary.jc(*masks)]
    for unit, spacing in (("voxel", None), ("mm", pair.spacing)):
        found.append(ours[f"hd95_{unit}"] - binary.hd95(*masks, spacing))
        found.append(ours[f"asd_{unit}"] - binary.asd(*masks, spacing))
    return float(np.abs(found).max())


def component_row(pair: Pair, rounds: int, clock: str) -> dict[str, float | str]:
    """Measure the largest component of a prediction with and without cc3d, and print its row."""
    library = components.cc3d

    def run(with_library: bool) -> Callable[[], object]:
        def call() -> object:
            components.cc3d = library if with_library else None
            try:
                return largest_component(pair.prediction)
            finally:
                components.cc3d = library

        return call

    took = alternating(
        {"scipy": run(False), "cc3d": run(True)}, rounds, partial(seconds, device=CPU, clock=CLOCKS[clock])
    )
    slow, fast = (1e3 * median(each) for each in took.values())
    times = ratio(took["scipy"], took["cc3d"])
    print(f"| {pair.name} | {slow:.1f} | {fast:.1f} | {times:.1f} |", flush=True)
    return {"name": pair.name, "scipy": slow, "cc3d": fast, "ratio": times}


def generated() -> list[Pair]:
    """Pairs of the sizes of the benchmarks."""
    atrium = (180, 150, 88), (90, 75, 44), (40, 36, 30)
    tumour = (240, 240, 155), (110, 130, 80), (40, 36, 29)
    organ = (256, 256, 100), (100, 120, 50), (50, 45, 25)
    return [
        Pair("left-atrium sized, 180 x 150 x 88", *jittered(*atrium), (0.625,) * 3, 4),
        Pair("BraTS sized, 240 x 240 x 155", *jittered(*tumour), (1.0,) * 3, 20),
        Pair("CT with thick slices, 256 x 256 x 100", *jittered(*organ), (0.8, 0.8, 3.0)),
    ]


def jittered(shape: tuple[int, ...], centre: tuple[int, ...], radii: tuple[int, ...]) -> tuple[Mask, Mask]:
    """Two ellipsoids with uneven surfaces, two voxels apart."""
    return ellipsoid(shape, [c + 2 for c in centre], radii, 1), ellipsoid(shape, centre, radii, 0)


def ellipsoid(shape: tuple[int, ...], centre: object, radii: tuple[int, ...], seed: int) -> Mask:
    """A mask with an uneven surface."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 4)
    grid = np.ogrid[tuple(slice(0, side) for side in shape)]
    squares = sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True))
    return np.asarray(squares < 1 + 0.12 * noise / noise.std())


def real(count: int) -> list[Pair]:
    """Labels of left atria against themselves, shifted and thinned."""
    from semiseg.scans.readers import read_label

    folder = Path(os.environ.get("SEMISEG_TEST_DATA", "")) / "la" / "labelsTr"
    found = []
    for path in sorted(folder.glob("*.nii.gz"))[:count]:
        volume = read_label(path)
        truth = volume.array > 0
        prediction = np.roll(ndimage.binary_erosion(truth), (2, -1, 1), (0, 1, 2))
        found.append(Pair(f"real left atrium {' x '.join(map(str, truth.shape))}", prediction, truth, volume.spacing))
    return found


if __name__ == "__main__":
    main()
