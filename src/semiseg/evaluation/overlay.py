"""Pictures of predictions on scans: reference and prediction side by side in three planes, as PNG."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray

from semiseg.errors import InputError
from semiseg.evaluation.planes import Plane, cut_planes
from semiseg.evaluation.scores import Scores
from semiseg.metrics.dice import dice
from semiseg.scans.readers import read_channel, read_label
from semiseg.system.files import replacing

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
"""Colours of classes 1, 2, ... (Okabe and Ito, told apart by colour-blind readers); then lighter, then darker ones."""

PANEL_HEIGHT, FIGURE_WIDTH = 3.4, 13.0
"""Most inches that a panel is high and a figure is wide; its panels have about one scale."""
LINE_HEIGHT = 0.25

INK = "#e8e8e8"
PAPER = "#16181c"
NBSP = "\xa0"
DASHES = (0, (2.5, 1.6))
HALO = [Stroke(linewidth=2, foreground=PAPER), Normal()]

Array = NDArray[Any]


def overlay(
    image: Array,
    truth: Array,
    prediction: Array,
    path: Path,
    *,
    class_names: Sequence[str],
    affine: Array | None = None,
    title: str = "",
) -> None:
    """Draw reference and prediction over the slices with most foreground, and write a PNG.

    Above are the reference labels; below are the predicted ones with the outline of the reference, so that a missing
    or surplus part shows. Volumes have three planes, images of one slice have one. The view is cut to the foreground
    with a margin; grey values run from the 1st to the 99th percentile of the view's own slices.

    Args:
        image: `[X, Y, Z]` or `[X, Y]`, one channel.
        truth: labels of the same shape.
        prediction: labels of the same shape.
        path: file to write.
        class_names: index is the label value, background first.
        affine: `[4, 4]`, voxel to RAS+ mm; axes are shown right side up and named. Without it they are shown as stored,
            with cubic voxels.
        title: first line, such as the case id; the Dice of each class is added.

    Raises:
        InputError: shapes differ, or the file cannot be written.
    """
    if not image.shape == truth.shape == prediction.shape or image.ndim not in (2, 3):
        raise InputError(
            f"expected image, truth and prediction of one shape with 2 or 3 axes, came {image.shape}, {truth.shape} "
            f"and {prediction.shape}: give one channel of the image and labels on its grid"
        )
    planes = cut_planes([np.atleast_3d(array) for array in (image, truth, prediction)], affine)
    colours = {label: class_colour(label) for label in range(1, len(class_names))}
    figure = _figure(planes, colours, to_scale=affine is not None)
    heading = _heading(truth, prediction, class_names, title, figure.get_figwidth())
    figure.suptitle(heading, color=INK, fontsize=11)
    lines = _legend(figure, class_names, colours) + heading.count("\n") + 1
    figure.set_figheight(figure.get_figheight() + LINE_HEIGHT * lines)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=PAPER)


def overlay_extremes(
    scores: Scores,
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    predictions: Mapping[str, Path],
    folder: Path,
) -> dict[str, Path]:
    """Draw the cases with the worst, the median and the best mean Dice, each once.

    Args:
        scores: an evaluation of these predictions.
        images: image file (the channel to show) by case id.
        labels: reference label file by case id.
        predictions: predicted label file by case id.
        folder: where `worst_CASE.png`, `median_CASE.png` and `best_CASE.png` go.

    Returns:
        Written file by role; fewer than three roles when there are fewer than three scored cases.

    Raises:
        InputError: a file cannot be read or written.
    """
    written = {}
    for role, case in extremes(scores).items():
        volume = read_channel(images[case], 0)
        truth, prediction = read_label(labels[case]).array, read_label(predictions[case]).array
        written[role] = folder / f"{role}_{case}.png"
        overlay(
            volume.array,
            truth,
            prediction,
            written[role],
            class_names=scores.class_names,
            affine=volume.affine,
            title=f"{case} ({role} of {len(scores.cases)})",
        )
    return written


def extremes(scores: Scores) -> dict[str, str]:
    """Case ids of the worst, median and best mean Dice; cases where no class is defined are left out."""
    return order_extremes({case: mean for case, mean in scores.case_means("dice").items() if not math.isnan(mean)})


def order_extremes(means: Mapping[str, float]) -> dict[str, str]:
    """Case ids of the lowest, the middle and the highest of `means`, each once; ties go by case id."""
    order = sorted(means, key=lambda case: (means[case], case))
    roles = {"worst": order[:1], "best": order[-1:] if len(order) > 1 else []}
    if len(order) > 2:
        roles["median"] = [order[(len(order) - 1) // 2]]
    return {role: roles[role][0] for role in ("worst", "median", "best") if roles.get(role)}


def class_colour(label: int) -> str:
    """Colour of a class as `#rrggbb`; see `COLOURS`."""
    cycle, place = divmod(label - 1, len(COLOURS))
    towards, share = ((1.0, 0.0), (1.0, 0.45), (0.0, 0.45))[cycle % 3]
    red, green, blue = ((1 - share) * part + share * towards for part in to_rgb(COLOURS[place]))
    return to_hex((red, green, blue))


def _figure(planes: Sequence[Plane], colours: Mapping[int, str], to_scale: bool) -> Figure:
    """Planes from left to right with the reference above the prediction; for one plane they are side by side."""
    sides = ("reference", "prediction")
    panels = [[(plane, side) for plane in planes] for side in sides]
    if len(planes) == 1:
        panels = [[panel for row in panels for panel in row]]
    widths, height = [plane.size[0] for plane, _ in panels[0]], max(plane.size[1] for plane in planes)
    scale = min(PANEL_HEIGHT / height, (FIGURE_WIDTH - 1) / sum(widths))
    narrowest = 5 if len(colours) < 5 else 9
    used = scale * sum(widths) + 1
    size = (max(used, narrowest), len(panels) * (scale * height + LINE_HEIGHT) + 0.2)
    layout = ConstrainedLayoutEngine(rect=((1 - used / size[0]) / 2, 0, used / size[0], 1))
    figure = Figure(figsize=size, dpi=150, facecolor=PAPER, layout=layout)
    grid = figure.subplots(len(panels), len(widths), squeeze=False, width_ratios=widths)
    for axes, (plane, side) in zip(grid.flat, (panel for row in panels for panel in row), strict=True):
        shown, outline = (plane.truth, None) if side == "reference" else (plane.prediction, plane.truth)
        _draw(axes, plane, shown, outline, colours)
        axes.set_title(f"{side}{plane.name and ', '}{plane.name}", color=INK, fontsize=9)
    if to_scale:
        _scale_bar(grid[0, 0], planes[0])
    return figure


def _draw(axes: Axes, plane: Plane, labels: Array, outline: Array | None, colours: Mapping[int, str]) -> None:
    aspect = plane.spacing[1] / plane.spacing[0]
    low, high = np.percentile(plane.image, (1, 99))
    axes.imshow(plane.image.T, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), origin="lower", aspect=aspect)
    fill = ListedColormap(["none", *colours.values()])
    axes.imshow(
        labels.T,
        cmap=fill,
        vmin=0,
        vmax=len(colours),
        alpha=0.3,
        origin="lower",
        aspect=aspect,
        interpolation="nearest",
    )
    for label, colour in colours.items():
        contour(axes, labels == label, colour, 1.4, "solid")
        if outline is not None:
            contour(axes, outline == label, "white", 1.1, DASHES)
    width, height = plane.image.shape
    axes.set(xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    _name_ends(axes, plane.ends if 8 * plane.size[1] > plane.size[0] else plane.ends[:2])


def contour(axes: Axes, mask: Array, colour: str, width: float, style: Any) -> None:
    """Outline of `mask` `[X, Y]`, whose first axis points right; nothing where it is empty."""
    if mask.any():
        # The frame of background closes outlines at the border of the view.
        framed = np.pad(mask, 1).T.astype(float)
        height, length = framed.shape
        x, y = np.arange(-1, length - 1), np.arange(-1, height - 1)
        axes.contour(x, y, framed, levels=[0.5], colors=[colour], linewidths=width, linestyles=[style])


def _name_ends(axes: Axes, ends: Sequence[str]) -> None:
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"), (0.5, 0.02, "center", "bottom"))
    for text, (x, y, across, along) in zip(ends, (*places, (0.5, 0.98, "center", "top")), strict=False):
        _write(axes, text, x, y, ha=across, va=along)


def _scale_bar(axes: Axes, plane: Plane) -> None:
    length = next((mm for mm in (100, 50, 20, 10, 5, 2) if mm < plane.size[0] / 4), 1)
    share = length / plane.size[0]
    axes.plot((0.04, 0.04 + share), (0.05, 0.05), color=INK, linewidth=2, transform=axes.transAxes, path_effects=HALO)
    _write(axes, f"{length} mm", 0.04 + share / 2, 0.065, ha="center", va="bottom")


def _write(axes: Axes, text: str, x: float, y: float, **place: Any) -> None:
    axes.text(x, y, text, color=INK, fontsize=8, transform=axes.transAxes, path_effects=HALO, **place)


def _heading(truth: Array, prediction: Array, class_names: Sequence[str], title: str, width: float) -> str:
    values = {name: dice(prediction == label, truth == label) for label, name in enumerate(class_names) if label}
    parts = [
        f"{name} {'absent' if math.isnan(value) else f'{value:.3f}'}".replace(" ", NBSP)
        for name, value in values.items()
    ]
    characters_per_inch = 11
    lines = textwrap.wrap("Dice: " + ", ".join(parts), int(width * characters_per_inch))
    return "\n".join([*([title] if title else []), *lines])


def _legend(figure: Figure, class_names: Sequence[str], colours: Mapping[int, str]) -> int:
    """Draw the legend below all panels; the number of its lines."""
    handles: list[Patch | Line2D] = [
        Patch(facecolor=colour + "59", edgecolor=colour, label=class_names[label]) for label, colour in colours.items()
    ]
    handles.append(Line2D([], [], color="white", linestyle=DASHES, linewidth=1.1, label="outline of reference"))
    inches = 0.7 + 0.08 * max(len(str(handle.get_label())) for handle in handles)
    columns = min(max(int(figure.get_figwidth() / inches), 1), len(handles))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        labelcolor=INK,
        fontsize=9,
    )
    return math.ceil(len(handles) / columns)
