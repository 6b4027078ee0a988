"""Pictures of predictions on scans: reference and prediction in three planes, as PNG."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from semiseg.errors import InputError
from semiseg.evaluation.scores import Scores
from semiseg.metrics.metrics import dice
from semiseg.reports.cohort import extremes
from semiseg.reports.panels import WIDTH, Panel, draw_panels, figure_width
from semiseg.reports.planes import Array, upright
from semiseg.scans.readers import read_channel, read_label

HEIGHT = 3.4
"""Most inches that a panel is high; the panels of a picture have about one scale."""

NBSP = "\xa0"


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
    space = upright([np.atleast_3d(array) for array in (image, truth, prediction)], affine)
    above: list[Panel] = []
    below: list[Panel] = []
    for plane in space.planes((space.volumes[1] > 0) | (space.volumes[2] > 0)):
        grey, true, predicted = (plane.cut(array, plane.fullest) for array in space.volumes)
        name = f", {plane.name} {plane.fullest + 1} of {plane.count}" if plane.name else ""
        bar = affine is not None and not above
        above.append(Panel(grey, plane.spacing, f"reference{name}", true, ends=plane.ends, bar=bar))
        below.append(Panel(grey, plane.spacing, f"prediction{name}", predicted, true, plane.ends))
    rows = [above, below] if len(above) > 1 else [above + below]
    across, along = zip(*(panel.millimetres for panel in rows[0]), strict=True)
    scale = min(HEIGHT / max(along), (WIDTH - 1) / sum(across))
    sides = [scale * side for side in across], [scale * max(along)] * len(rows)
    heading = _heading(truth, prediction, class_names, title, figure_width(sides[0], class_names))
    draw_panels(rows, path, sides=sides, class_names=class_names, heading=heading, filled=True)


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
    for role, case in extremes(scores.case_means("dice")).items():
        volume = read_channel(images[case], 0)
        written[role] = folder / f"{role}_{case}.png"
        overlay(
            volume.array,
            read_label(labels[case]).array,
            read_label(predictions[case]).array,
            written[role],
            class_names=scores.class_names,
            affine=volume.affine,
            title=f"{case} ({role} of {len(scores.cases)})",
        )
    return written


def _heading(truth: Array, prediction: Array, class_names: Sequence[str], title: str, width: float) -> str:
    values = {name: dice(prediction == label, truth == label) for label, name in enumerate(class_names) if label}
    parts = [
        f"{name} {'absent' if math.isnan(value) else f'{value:.3f}'}".replace(" ", NBSP)
        for name, value in values.items()
    ]
    characters_per_inch = 11
    lines = textwrap.wrap("Dice: " + ", ".join(parts), int(width * characters_per_inch))
    return "\n".join([*([title] if title else []), *lines])
