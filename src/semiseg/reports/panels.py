"""PNG pictures made of panels: a plane of an image, labels filled or outlined on it, a legend below."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke

from semiseg.reports.planes import Array, class_colour, outlines, window
from semiseg.system.files import replacing

WIDTH = 13.0
"""Most inches that a figure is wide, one of them for its margins."""

LINE_HEIGHT = 0.25
INK, PAPER = "#e8e8e8", "#16181c"
DASHES = (0, (2.5, 1.6))
HALO = [Stroke(linewidth=2, foreground=PAPER), Normal()]


@dataclass(frozen=True)
class Panel:
    """A picture; all arrays are `[width, height]`.

    Attributes:
        spacing: mm to the right and up.
        title: its lines stand above the panel.
        labels: outlined in the colours of their classes.
        reference: outlined in white dashes.
        ends: left, right, bottom and top.
        bar: draw a bar of some millimetres.
        scale: values of black and white; default: the 1st and 99th percentile of the image.
    """

    image: Array
    spacing: tuple[float, float]
    title: str = ""
    labels: Array | None = None
    reference: Array | None = None
    ends: Sequence[str] = ()
    bar: bool = False
    scale: tuple[float, float] | None = None

    @property
    def millimetres(self) -> tuple[float, float]:
        """Width and height."""
        return self.image.shape[0] * self.spacing[0], self.image.shape[1] * self.spacing[1]


def draw_panels(
    rows: Sequence[Sequence[Panel]],
    path: Path,
    *,
    sides: tuple[Sequence[float], Sequence[float]],
    class_names: Sequence[str],
    heading: str = "",
    filled: bool = False,
) -> None:
    """Draw rows of panels and write a PNG.

    Args:
        rows: from top to bottom.
        path: file to write.
        sides: inches of every column, and of every row.
        class_names: index is the label value, background first.
        heading: lines above all panels.
        filled: tint labels as well.

    Raises:
        InputError: the file cannot be written.
    """
    (widths, heights), used = sides, sum(sides[0]) + 1
    inches = figure_width(widths, class_names)
    layout = ConstrainedLayoutEngine(rect=((1 - used / inches) / 2, 0, used / inches, 1))
    figure = Figure(figsize=(inches, 1), dpi=150, facecolor=PAPER, layout=layout)
    grid = figure.subplots(len(rows), len(widths), squeeze=False, width_ratios=widths, height_ratios=heights)
    colours = {label: class_colour(label) for label in range(1, len(class_names))}
    for row, line in zip(grid, rows, strict=True):
        for axes in row:
            axes.axis("off")
        for axes, panel in zip(row, line, strict=False):
            _draw(axes, panel, colours, filled)
    figure.suptitle(heading, color=INK, fontsize=11)
    dashed = any(panel.reference is not None for line in rows for panel in line)
    lines = _legend(figure, class_names, colours, dashed) + sum(1 + line[0].title.count("\n") for line in rows)
    lines += heading.count("\n") + 1 if heading else 0
    figure.set_figheight(sum(heights) + LINE_HEIGHT * lines + 0.2)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=PAPER)


def figure_width(widths: Sequence[float], class_names: Sequence[str]) -> float:
    """Inches of a figure with columns of these: enough for its legend."""
    return max(sum(widths) + 1, 5 if len(class_names) < 6 else 9)


def _draw(axes: Axes, panel: Panel, colours: Mapping[int, str], filled: bool) -> None:
    (width, height), aspect = panel.image.shape, panel.spacing[1] / panel.spacing[0]
    low, high = panel.scale or window(panel.image)
    axes.imshow(panel.image.T, cmap="gray", vmin=low, vmax=high, origin="lower", aspect=aspect)
    if filled and panel.labels is not None:
        tints = ListedColormap(["none", *colours.values()])
        look: dict[str, Any] = {"cmap": tints, "vmax": len(colours), "alpha": 0.3, "interpolation": "nearest"}
        axes.imshow(panel.labels.T, vmin=0, origin="lower", aspect=aspect, **look)
    for label, colour in colours.items():
        _outline(axes, panel.labels, label, colors=colour, linewidths=1.4)
        _outline(axes, panel.reference, label, colors="white", linewidths=1.1, linestyles=[DASHES])
    axes.set(xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5))
    axes.set_title(panel.title, color=INK, fontsize=8, loc="left")
    across, along = panel.millimetres
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"), (0.5, 0.02, "center", "bottom"))
    shown = panel.ends if 8 * along > across else panel.ends[:2]
    for text, (x, y, ha, va) in zip(shown, (*places, (0.5, 0.98, "center", "top")), strict=False):
        _write(axes, text, x, y, ha=ha, va=va)
    if panel.bar:
        _scale_bar(axes, across)


def _outline(axes: Axes, labels: Array | None, label: int, **look: Any) -> None:
    if labels is not None:
        axes.add_collection(LineCollection(outlines(labels == label), **look), autolim=False)


def _scale_bar(axes: Axes, across: float) -> None:
    length = next((mm for mm in (100, 50, 20, 10, 5, 2) if mm < across / 4), 1)
    share = length / across
    axes.plot((0.04, 0.04 + share), (0.05, 0.05), color=INK, linewidth=2, transform=axes.transAxes, path_effects=HALO)
    _write(axes, f"{length} mm", 0.04 + share / 2, 0.065, ha="center", va="bottom")


def _write(axes: Axes, text: str, x: float, y: float, **place: Any) -> None:
    axes.text(x, y, text, color=INK, fontsize=8, transform=axes.transAxes, path_effects=HALO, **place)


def _legend(figure: Figure, class_names: Sequence[str], colours: Mapping[int, str], dashed: bool) -> int:
    """Draw the legend below all panels; the number of its lines."""
    handles: list[Patch | Line2D] = [
        Patch(facecolor=colour + "59", edgecolor=colour, label=class_names[label]) for label, colour in colours.items()
    ]
    if dashed:
        handles.append(Line2D([], [], color="white", linestyle=DASHES, linewidth=1.1, label="outline of reference"))
    if not handles:
        return 0
    inches = 0.7 + 0.08 * max(len(str(handle.get_label())) for handle in handles)
    columns = min(max(int(figure.get_figwidth() / inches), 1), len(handles))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, labelcolor=INK, fontsize=9)
    return math.ceil(len(handles) / columns)
