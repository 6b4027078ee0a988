"""Do unlabelled scans help? Methods against the supervised control and the upper bound, on any dataset.

    python benchmarks/methods.py DATA --splits l8 [--seeds 3] [--steps 400] [--set batch.patch=[32,48,32]]

DATA is a dataset folder with split files `splits/l8.json`, ..., and one with all labels (`--bound`). Every method gets
the same steps, patches, augmentation, network and labelled cases. Runs that are finished are not repeated, so a stopped
comparison goes on where it was. Prints Markdown tables and writes every figure into one CSV file.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import semiseg

METHODS = ("supervised", "mean_teacher", "cps", "dhc", "micd", "ducisc", "cml", "lefed")
METRICS = ("dice", "hd95_mm", "asd_mm")
COLUMNS = ("experiment", "dataset", "split", "method", "seed", "class", "metric", "value")


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
    arguments = _arguments()
    cells = [Cell(method, split) for split in arguments.splits for method in arguments.methods]
    if arguments.bound:
        cells.append(Cell("supervised", arguments.bound))
    for seed in range(arguments.seeds):
        for cell in cells:
            run(cell, seed, arguments)
    for split in arguments.splits:
        rows = [cell for cell in cells if cell.split in (split, arguments.bound)]
        print(f"\n{split}, {arguments.steps} steps, {arguments.seeds} seeds\n")
        print("\n".join(table(rows, arguments)))
    if arguments.csv:
        write(arguments.csv, cells, arguments)


def run(cell: Cell, seed: int, arguments: argparse.Namespace) -> None:
    """One run, from training to scores, unless it is there."""
    folder = cell.folder(arguments.output, seed)
    if (folder / "scores.json").exists():
        return
    semiseg.train(
        arguments.data,
        folder,
        prepared=arguments.prepared or arguments.output / "prepared",
        split=arguments.data / "splits" / f"{cell.split}.json",
        method=cell.method,
        seed=seed,
        steps=arguments.steps,
        assignments=arguments.set,
        show=True,
    )
    semiseg.predict(folder)
    semiseg.evaluate(folder)


def table(cells: Iterable[Cell], arguments: argparse.Namespace) -> list[str]:
    """Markdown: mean and standard deviation over seeds of the means over cases, and the median speed."""
    lines: list[str] = []
    for cell in cells:
        runs = [cell.folder(arguments.output, seed) for seed in range(arguments.seeds)]
        found = [scores_of(folder) for folder in runs]
        names = [name for name in found[0] if name != "mean"]
        if not lines:
            columns = ["Dice %", *(f"Dice % {name}" for name in names), *(f"95HD mm {name}" for name in names)]
            lines = [f"| method | {' | '.join(columns)} | patches/s |", "|---" * (len(columns) + 2) + "|"]
        values = [spread([100 * scores["mean"]["dice"] for scores in found])]
        values += [spread([100 * scores[name]["dice"] for scores in found]) for name in names]
        values += [spread([scores[name]["hd95_mm"] for scores in found]) for name in names]
        label = f"{cell.method}, all labels" if cell.split == arguments.bound else cell.method
        speed = median(patches_per_second(folder) for folder in runs)
        lines.append(f"| {label} | {' | '.join(values)} | {speed:.1f} |")
    return lines


def write(path: Path, cells: Iterable[Cell], arguments: argparse.Namespace) -> None:
    """Every figure of every run as one row of a tidy CSV file, in the units of `scores.csv`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for cell in cells:
            for seed in range(arguments.seeds):
                head = (path.stem, arguments.data.name, cell.split, cell.method, seed)
                rows.writerows((*head, *figure) for figure in figures(cell.folder(arguments.output, seed)))


def figures(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Class, metric and value of everything that a run measured."""
    for name, metrics in scores_of(folder).items():
        yield from ((name, metric, f"{value:.4f}") for metric, value in metrics.items())
    yield "", "patches_per_second", f"{patches_per_second(folder):.2f}"


def scores_of(folder: Path) -> dict[str, dict[str, float]]:
    """Means over cases by class (and `mean` over classes) and metric."""
    scores: dict[str, Any] = json.loads((folder / "scores.json").read_text())
    by_class = {
        name: {metric: found[metric]["mean"] for metric in METRICS} for name, found in scores["classes"].items()
    }
    return {**by_class, "mean": {metric: scores["mean"][metric] for metric in METRICS}}


def patches_per_second(folder: Path) -> float:
    """Median over the training; methods without unlabelled patches count the labelled ones."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return median(line["patches_per_second"] for line in map(json.loads, lines) if "patches_per_second" in line)


def spread(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation."""
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/methods"), help="folder of the runs")
    parser.add_argument("--prepared", type=Path, help="prepared store; default: `prepared` in the output folder")
    parser.add_argument("--splits", nargs="+", default=["l8"])
    parser.add_argument("--bound", default="all", help="split with all labels; empty: no upper bound")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--set", action="append", default=[], help="setting for every run, as semiseg train --set")
    parser.add_argument("--csv", type=Path, help="tidy file of all figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
