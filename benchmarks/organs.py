"""Do methods for unbalanced classes help the small organs? Every method of MICD's tables on the generated abdomen.

    python benchmarks/organs.py OUTPUT [--steps 200] [--seeds 3] [--workers 2] [--quick]

15 organs, 3 labelled and 21 unlabelled slices of other patients, 10 test cases, protocol honest; every method has the
same network, patches, steps and seeds (`SETTINGS`). OUTPUT/abdomen is the dataset, OUTPUT/abdomen_grid the comparison
as `semiseg compare` writes it; a run that was ended goes on where it was. Printed are Dice per organ, ordered by size,
and the means of the five smallest, middle and largest organs, mean and standard deviation over the seeds. About 40
minutes on two idle cores; `--quick` tries two methods for 20 steps.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

import semiseg
from semiseg.comparison.tables import Table, markdown, table_of
from semiseg.phantom.cohort import PhantomConfig, make_case, make_cohort

COHORT = PhantomConfig(seed=1, shape=(96, 72), organs=15, labelled=3, unlabelled=21, test=10)
METHODS = ("cps", "dhc", "micd", "uamt", "urpc", "ssnet", "dst", "depl", "adsh", "crest", "simis", "basak", "cld")
BALANCING = ("dhc", "adsh", "crest", "simis", "basak", "cld")
"""Those that weigh or select classes by how frequent or difficult they are."""
SETTINGS = (
    "batch.patch=[96,72]",
    "batch.labelled=2",
    "batch.unlabelled=2",
    "network.options.filters=[16,32,64,128]",
    "optimiser.lr=0.006",
)
GROUP = 5
Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Means over cases by method, then by seed, then by organ."""


def main() -> None:
    """Make the cohort, run what is left of the grid, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    data, grid = make_cohort(given.output / "abdomen", COHORT), given.output / "abdomen_grid"
    rows = semiseg.compare(
        data,
        grid,
        methods=list(METHODS[:2] if given.quick else METHODS),
        splits=["demo"],
        seeds=1 if given.quick else given.seeds,
        steps=20 if given.quick else given.steps,
        bound=False,  # the unlabelled cases of the cohort have no labels anywhere
        assignments=SETTINGS,
        workers=given.workers,
        say=print,
    )
    costs = {str(row["method"]): row for row in _dictionaries(rows)}
    sizes = organ_sizes()
    for table in tables(read_scores(grid / "summary.csv", "dice"), read_scores(grid / "summary.csv", "asd_mm"), sizes):
        print(markdown(table))
    print(markdown(cost_table(costs)))


def _dictionaries(rows: object) -> list[dict[str, object]]:
    return rows if isinstance(rows, list) else rows.to_dict("records")  # type: ignore[attr-defined, no-any-return]


def organ_sizes() -> dict[str, float]:
    """Median voxels of each organ over the test cases, the largest organ first."""
    labels = [make_case(COHORT, index).label for index in COHORT.roles["test"]]
    counts = np.array([np.bincount(label.ravel(), minlength=COHORT.organs + 1) for label in labels])
    sizes = {name: float(np.median(counts[:, value])) for value, name in enumerate(COHORT.class_names) if value}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def read_scores(summary: Path, metric: str) -> Scores:
    """The rows of a comparison's `summary.csv` with this metric."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    with summary.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["metric"] == metric:
                found.setdefault(row["method"], {}).setdefault(row["seed"], {})[row["class"]] = float(row["value"])
    return found


def tables(dice: Scores, asd: Scores, sizes: Mapping[str, float]) -> Iterator[Table]:
    """Means of groups of organs with their spread, then every organ."""
    organs = list(sizes)
    groups = {
        "all": organs,
        "5 largest": organs[:GROUP],
        "5 middle": organs[GROUP:-GROUP],
        "5 smallest": organs[-GROUP:],
    }
    heads = ("method", *(f"Dice % {name}" for name in groups), "ASD mm")
    rows = [
        (
            _name(method),
            *(_over_seeds(seeds, names, 100, 1) for names in groups.values()),
            _over_seeds(asd[method], organs, 1, 1),
        )
        for method, seeds in dice.items()
    ]
    yield table_of("Groups of organs", heads, rows, ("mean ± standard deviation over seeds of means over cases",))
    heads = ("method", *(f"{organ.replace('_', ' ')} ({sizes[organ]:.0f})" for organ in organs))
    rows = [(_name(name), *(_over_seeds(seeds, [organ], 100, 0) for organ in organs)) for name, seeds in dice.items()]
    yield table_of("Dice % by organ, largest first (median voxels)", heads, rows)


def _name(method: str) -> str:
    return f"{method} *" if method in BALANCING else method


def _over_seeds(seeds: Mapping[str, Mapping[str, float]], organs: Sequence[str], factor: float, digits: int) -> str:
    values = [factor * fmean(scores[organ] for organ in organs) for scores in seeds.values()]
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{spread}"


def cost_table(costs: Mapping[str, Mapping[str, object]]) -> Table:
    """Seconds and peak memory of a cell."""
    rows = [
        (_name(method), _number(row["seconds"]), _number(row["peak_memory"], 2.0**-20)) for method, row in costs.items()
    ]
    return table_of("Cost of a cell, medians over seeds", ("method", "seconds", "peak MiB"), rows)


def _number(value: object, factor: float = 1.0) -> str:
    return f"{float(value) * factor:.0f}"  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
