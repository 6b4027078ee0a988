"""Pictures of training batches: patches as networks see them, with the outlines of their labels, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semiseg.reports.panels import Panel, draw_panels
from semiseg.reports.planes import Array, Space, window

MOST = 8
"""Most patches of a strip."""

PANEL, WIDTH = 1.8, 9.4
"""Most inches that a panel is wide or high, and that the panels of a strip are wide together."""


@dataclass(frozen=True)
class Strip:
    """Patches side by side, `images` `[B, channels, *S]`, with case ids and `labels` `[B, *S]` where they are known."""

    title: str
    images: Array
    cases: tuple[str, ...] = ()
    labels: Array | None = None


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
    rows = [row for strip in strips for row in _rows(strip, [*spacing, 1.0][:3])]
    columns = max(map(len, rows))
    width = min(WIDTH / columns, PANEL)
    heights = [min(width * row[0].millimetres[1] / row[0].millimetres[0], PANEL) for row in rows]
    draw_panels(rows, path, sides=([width] * columns, heights), class_names=class_names)


def _rows(strip: Strip, spacing: Sequence[float]) -> list[list[Panel]]:
    """Panels of a strip: a row per plane, a column per patch."""
    count = len(strip.images)
    title = f"{strip.title} (first {MOST} of {count} patches)" if count > MOST else strip.title
    columns = []
    for index, (image, *_) in enumerate(strip.images[:MOST]):
        labels = np.zeros(image.shape) if strip.labels is None else strip.labels[index]
        space = Space([np.atleast_3d(image), np.atleast_3d(labels)], spacing)
        planes = space.planes(space.volumes[1] > 0, [slice(0, side) for side in space.volumes[0].shape])
        names = [title if index == 0 else "", *strip.cases[index : index + 1]]
        cuts = [[plane.cut(array, plane.fullest) for array in space.volumes] for plane in planes]
        columns.append(
            [
                Panel(cut[0], plane.spacing, "" if row else "\n".join(names), cut[1], scale=window(image))
                for row, (plane, cut) in enumerate(zip(planes, cuts, strict=True))
            ]
        )
    return [list(row) for row in zip(*columns, strict=True)]
