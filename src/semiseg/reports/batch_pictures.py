"""Pictures of training batches: patches as networks see them, with the outlines of their labels, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from semiseg.evaluation.overlay import FIGURE_WIDTH, INK, PAPER, class_colour, contour
from semiseg.system.files import replacing

MOST = 8
"""Most patches of a strip."""

PANEL = 2.2
"""Most inches that a panel is wide or high."""

HEADING = 0.3
"""Inches for the title of a strip."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Strip:
    """Patches side by side, `images` `[B, channels, *S]`, with case ids and `labels` `[B, *S]` where they are known."""

    title: str
    images: Array
    cases: tuple[str, ...] = ()
    labels: Array | None = None

    def label(self, index: int) -> Array | None:
        """Labels of a patch."""
        return None if self.labels is None else self.labels[index]


def draw_batch(strips: Sequence[Strip], path: Path, *, class_names: Sequence[str], spacing: Sequence[float]) -> None:
    """Draw the strips below each other and write a PNG.

    Volumes are cut across each of their axes, through most foreground where labels are known, else through the centre;
    the first channel is shown, from its 1st to its 99th percentile in the patch. A strip shows 8 patches at most.

    Args:
        strips: what to show.
        path: file to write.
        class_names: index is the label value, background first.
        spacing: mm of the patches' voxels per axis.

    Raises:
        InputError: the file cannot be written.
    """
    across: tuple[int | None, ...] = (2, 1, 0) if len(spacing) == 3 else (None,)
    columns = min(max(len(strip.images) for strip in strips), MOST)
    width = min(FIGURE_WIDTH / columns, PANEL)
    heights = [_height(strips[0].images.shape[2:], axis, spacing, width) for axis in across]
    inches = sum(heights) + HEADING
    figure = Figure(
        figsize=(max(columns * width, 5), len(strips) * inches + HEADING),
        dpi=120,
        facecolor=PAPER,
        layout="constrained",
    )
    for part, strip in zip(figure.subfigures(len(strips), 1, squeeze=False)[:, 0], strips, strict=True):
        part.set_facecolor(PAPER)
        part.suptitle(_title(strip), color=INK, fontsize=9, x=0.01, ha="left")
        grid = part.subplots(len(across), columns, squeeze=False, height_ratios=heights)
        for row, axis in zip(grid, across, strict=True):
            for index, axes in enumerate(row):
                axes.axis("off")
                if index < len(strip.images):
                    _draw(axes, strip, index, axis, spacing)
        for axes, case in zip(grid[0], strip.cases, strict=False):
            axes.set_title(case, color=INK, fontsize=7)
    handles = [Line2D([], [], color=class_colour(label), label=name) for label, name in enumerate(class_names) if label]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 8),
        frameon=False,
        labelcolor=INK,
        fontsize=8,
    )
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=PAPER)


def _title(strip: Strip) -> str:
    count = len(strip.images)
    return f"{strip.title} (first {MOST} of {count} patches)" if count > MOST else strip.title


def _height(sides: Sequence[int], axis: int | None, spacing: Sequence[float], width: float) -> float:
    """Inches of a panel that shows the plane across `axis` to scale."""
    right, up = (k for k in range(len(sides)) if k != axis)
    return min(width * sides[up] * spacing[up] / (sides[right] * spacing[right]), PANEL)


def _draw(axes: Axes, strip: Strip, index: int, axis: int | None, spacing: Sequence[float]) -> None:
    """The plane of a patch across `axis`, its first remaining axis to the right."""
    image, label = strip.images[index, 0], strip.label(index)
    low, high = np.percentile(image, (1, 99))
    right, up = (k for k in range(image.ndim) if k != axis)
    if axis is not None:
        filled = np.zeros(1) if label is None else (label > 0).sum(axis=(right, up))
        at = int(filled.argmax()) if filled.any() else image.shape[axis] // 2
        image, label = image.take(at, axis), None if label is None else label.take(at, axis)
    axes.imshow(
        image.T, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), origin="lower", aspect=spacing[up] / spacing[right]
    )
    for value in () if label is None else np.unique(label[label > 0]):
        contour(axes, label == value, class_colour(int(value)), 1.1, "solid")
    axes.set(xlim=(-0.5, image.shape[0] - 0.5), ylim=(-0.5, image.shape[1] - 0.5))
