"""How alike features of labelled and of unlabelled scans are distributed: densities, as numbers and as a picture."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.stats import gaussian_kde

from semiseg.system.files import replacing, write_text

POINTS = 200
"""Positions at which the densities are told."""

REACH = 0.1
"""What the axis goes beyond the features on both sides, as a share of their range."""

COLOURS = ("#0072B2", "#D55E00")

Array = NDArray[Any]


@dataclass(frozen=True)
class FeatureDensity:
    """Kernel densities of the features of foreground voxels, along the direction in which all of them vary most.

    Attributes:
        tap: name of the feature in the network.
        position: along that direction, in standard deviations of all features from their mean.
        labelled, unlabelled: densities there.
        counts: voxels of labelled and of unlabelled scans.
        overlap: area under both densities, 1 where they are the same.
    """

    tap: str
    position: tuple[float, ...]
    labelled: tuple[float, ...]
    unlabelled: tuple[float, ...]
    counts: tuple[int, int]
    overlap: float

    def save(self, folder: Path) -> None:
        """Write `features.csv` (a row per position) and `features.png`.

        Raises:
            InputError: the folder cannot be written.
        """
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["position", "labelled", "unlabelled"])
        writer.writerows(zip(self.position, self.labelled, self.unlabelled, strict=True))
        write_text(folder / "features.csv", file.getvalue())
        with replacing(folder / "features.png") as temporary:
            self._figure().savefig(temporary, format="png")

    def _figure(self) -> Figure:
        figure = Figure(figsize=(6, 3.6), dpi=150, layout="constrained")
        axes = figure.subplots()
        for name, values, count, colour in zip(
            ("labelled", "unlabelled"), (self.labelled, self.unlabelled), self.counts, COLOURS, strict=True
        ):
            axes.plot(self.position, values, color=colour, label=f"{name} scans ({count} voxels)")
            axes.fill_between(self.position, values, color=colour, alpha=0.2, linewidth=0)
        axes.set(
            xlabel=f"features of {self.tap} along their first principal direction (standard deviations)",
            ylabel="density",
            ylim=(0, None),
            xlim=(self.position[0], self.position[-1]),
            title=f"foreground features, overlap {self.overlap:.3f}",
        )
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        return figure


def feature_density(tap: str, labelled: Array, unlabelled: Array) -> FeatureDensity | None:
    """Densities of the vectors `[n, Z]` and `[m, Z]`; None where one set has too few or all are the same.

    The kernel is Gaussian, its width by Scott's rule.
    """
    if min(len(labelled), len(unlabelled)) < 2:
        return None
    every = np.concatenate([labelled, unlabelled]).astype(np.float64)
    centred = every - every.mean(0)
    direction = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    # An eigenvector has no sign of its own; larger features shall lie to the right.
    along = centred @ (direction * (1 if direction.sum() >= 0 else -1))
    parts = along[: len(labelled)], along[len(labelled) :]
    if min(part.std() for part in parts) < 1e-9 * max(np.abs(every).max(), 1e-30):
        return None
    along, parts = along / along.std(), (parts[0] / along.std(), parts[1] / along.std())
    extra = REACH * np.ptp(along)
    position = np.linspace(along.min() - extra, along.max() + extra, POINTS)
    one, two = (gaussian_kde(part)(position) for part in parts)
    overlap = float(trapezoid(np.minimum(one, two), position))
    counts = len(labelled), len(unlabelled)
    return FeatureDensity(tap, tuple(position.tolist()), tuple(one.tolist()), tuple(two.tolist()), counts, overlap)
