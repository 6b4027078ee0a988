"""Do unlabelled scans help? Methods against the supervised control and the upper bound, on hippocampus MRI.

    python benchmarks/hippocampus.py DATA [--output runs/hippocampus] [--splits l4 l8] [--seeds 3] [--steps 400]

DATA is Task04 of the Medical Segmentation Decathlon with split files `splits/l4.json`, ..., `splits/all.json`. Every
method gets the same steps, patches, augmentation, network and labelled cases. Runs that are finished are not repeated,
so a stopped comparison goes on where it was. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import semiseg

METHODS = ("supervised", "mean_teacher", "dhc", "micd")
PATCH = (32, 48, 32)


@dataclass(frozen=True)
class Cell:
    """One row of a table: a method on a split, over all seeds."""

    method: str
    split: str

    def folder(self, root: Path, seed: int) -> Path:
        """Run folder of a seed."""
        return root / f"{self.method}_{self.split}_s{seed}"


def main() -> None:
    """Train, predict and score what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/hippocampus"))
    parser.add_argument("--splits", nargs="+", default=["l4", "l8"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    cells = [Cell(method, split) for split in arguments.splits for method in arguments.methods]
    cells.append(Cell("supervised", "all"))
    for seed in range(arguments.seeds):
        for cell in cells:
            run(cell, seed, arguments)
    for split in arguments.splits:
        rows = [cell for cell in cells if cell.split in (split, "all")]
        print(f"\n{split}, {arguments.steps} steps, {arguments.seeds} seeds\n")
        print("\n".join(table(rows, arguments.output, arguments.seeds)))


def run(cell: Cell, seed: int, arguments: argparse.Namespace) -> None:
    """One run, from training to scores, unless it is there."""
    folder = cell.folder(arguments.output, seed)
    if (folder / "scores.json").exists():
        return
    semiseg.train(
        arguments.data,
        folder,
        prepared=arguments.output / "prepared",
        split=arguments.data / "splits" / f"{cell.split}.json",
        method=cell.method,
        seed=seed,
        steps=arguments.steps,
        batch={"patch": PATCH},
        show=True,
    )
    semiseg.predict(folder)
    semiseg.evaluate(folder)


def table(rows: Iterable[Cell], root: Path, seeds: int) -> list[str]:
    """Markdown: mean and standard deviation over seeds of the means over cases."""
    lines: list[str] = []
    for cell in rows:
        found = [json.loads((cell.folder(root, seed) / "scores.json").read_text()) for seed in range(seeds)]
        names = list(found[0]["classes"])
        if not lines:
            columns = ["Dice %", *(f"Dice % {name}" for name in names), *(f"95HD mm {name}" for name in names)]
            lines = [f"| method | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        values = [spread([100 * scores["mean"]["dice"] for scores in found])]
        values += [spread([100 * of(scores, name, "dice") for scores in found]) for name in names]
        values += [spread([of(scores, name, "hd95_mm") for scores in found]) for name in names]
        label = f"{cell.method}, all labels" if cell.split == "all" else cell.method
        lines.append(f"| {label} | {' | '.join(values)} |")
    return lines


def of(scores: dict[str, Any], name: str, metric: str) -> float:
    """Mean over cases of one metric of one class."""
    return float(scores["classes"][name][metric]["mean"])


def spread(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation."""
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
