"""Line charts and box plots as SVG inside a page: told apart by letters and dashes as well as by colour.

matplotlib draws them; the page's style sheet says how each kind of line and text looks, so that a chart is a few lines
of SVG without styles of its own, which the page's security policy would forbid.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree  # nosec B405

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator

from semiseg.reports.words import clipped, printable, short

INKS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9")
"""Colours of runs (Okabe and Ito); yellow is left out, which white paper swallows."""
DASHES = ((), (7, 3), (2, 2.5), (9, 3, 2, 3), (12, 4), (4, 4), (1, 3))
"""Line styles beside them; after seven runs both cycles run on against each other."""

POINTS = 300
"""Most points of a line; longer curves are averaged over spans of steps."""

WIDTH, HEIGHT = 460, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 26, 10, 34
KINDS = ("grid", "frame", "curve", "box", "median", "whisker", "dot", "unit", "end", "group", "key", "tick")
"""Classes of the style sheet; whatever else matplotlib draws is left out."""


@dataclass(frozen=True)
class Style:
    """Colour and dashes of a line."""

    ink: str
    dash: tuple[float, ...]


def style_of(index: int) -> Style:
    """Style of run `index`."""
    return Style(INKS[index % len(INKS)], DASHES[(index + index // len(INKS)) % len(DASHES)])


@dataclass(frozen=True)
class Line:
    """A curve: label at its end, points in the order of x, and style."""

    label: str
    points: Sequence[tuple[float, float]]
    style: Style


@dataclass(frozen=True)
class Box:
    """Values of one class in one run; `names` are the cases."""

    label: str
    values: Sequence[float]
    names: Sequence[str]
    style: Style


@dataclass(frozen=True)
class Chart:
    """A picture with its caption."""

    title: str
    unit: str
    svg: Markup


def round_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers, the first at or below `low`, the last at or above `high`."""
    if not high > low:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    return [float(tick) for tick in MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]


def _powers_of_ten(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, last + 1, max((last - first) // 4, 1))]


def line_chart(
    title: str, lines: Sequence[Line], *, unit: str = "", from_zero: bool = False, right: int = RIGHT
) -> Chart | None:
    """Curves over training steps, `right` units of space for the labels at their ends.

    The axis is logarithmic where positive values span more than two powers of ten and need not begin at zero. None
    where there is no finite value.
    """
    shown = [Line(clipped(printable(line.label), 14), thinned(line.points), line.style) for line in lines]
    shown = [line for line in shown if line.points]
    if not shown:
        return None
    values = [y for line in shown for _, y in line.points]
    low, high = 0.0 if from_zero else min(values), max(values)
    logarithmic = low > 0 and high / low > 100
    figure, axes = _axes(HEIGHT, LEFT, right, TOP, BOTTOM)
    across = round_ticks(0, max(x for line in shown for x, _ in line.points), 4)
    up = _powers_of_ten(low, high) if logarithmic else round_ticks(low, high)
    axes.set_yscale("log" if logarithmic else "linear")
    axes.set(xlim=(across[0], across[-1]), ylim=(up[0], max(up[-1], high)))
    _scale(axes, across, up)
    for tick in up:
        axes.axhline(tick, zorder=0, gid="grid")
    axes.vlines(across, -0.022, 0, transform=axes.get_xaxis_transform(), clip_on=False, gid="frame")
    axes.spines.bottom.set(visible=True, gid="frame")
    for line in shown:
        if len(line.points) > 1:
            look: dict[str, Any] = {"dashes": line.style.dash or (None, None), "gid": "curve"}
        else:
            look = {"marker": "o", "linestyle": "none", "gid": "dot"}
        axes.plot(*zip(*line.points, strict=True), color=line.style.ink, linewidth=1, clip_on=False, **look)
    _label_ends(figure, axes, shown)
    _write(figure, (LEFT + WIDTH - right) / 2, HEIGHT - 4, "training step", "unit", "center")
    spoken = "; ".join(f"{line.label} from {_at(line, 0)} to {_at(line, -1)}" for line in shown)
    scale = f"{f' ({unit})' if unit else ''}{' logarithmic' if logarithmic else ''}"
    return Chart(title, scale, _svg(figure, f"{title}: {spoken}"))


def _at(line: Line, index: int) -> str:
    return short(line.points[index][1])


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Finite points, averaged over equally long pieces where there are more than `POINTS`."""
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    if len(finite) <= POINTS:
        return finite
    pieces = np.array_split(np.array(finite, float), POINTS)
    return [(float(piece[-1, 0]), float(piece[:, 1].mean())) for piece in pieces]


def box_plot(title: str, groups: Sequence[tuple[str, Sequence[Box]]], *, unit: str, from_zero: bool) -> Chart | None:
    """Horizontal boxes, one line per run under the name of each class, with a dot per case.

    A box reaches from the first to the third quartile, its bar is the median, whiskers end at the last case within 1.5
    of the box's length. None where there is no finite value.
    """
    values = [value for _, boxes in groups for box in boxes for value in box.values if math.isfinite(value)]
    if not values:
        return None
    left, right, bottom = 34, 14, 34
    depth = sum(24 + 22 * len(boxes) for _, boxes in groups) + 4
    figure, axes = _axes(depth + bottom, left, right, 0, bottom)
    across = round_ticks(0.0 if from_zero else min(values), max(values))
    axes.set(xlim=(across[0], across[-1]), ylim=(depth, 0))
    _scale(axes, across, [])
    for tick in across:
        axes.axvline(tick, zorder=0, gid="grid")
    y, hints = 4.0, list[str]()
    for name, boxes in groups:
        _write(figure, 4, y + 14, clipped(printable(name), 60), "group")
        for row, box in enumerate(boxes):
            middle = y + 31 + 22 * row
            _write(figure, left - 8, middle + 4, box.label, "key", "right")
            hints += _draw_box(axes, box, middle, unit)
        y += 24 + 22 * len(boxes)
    _write(figure, (left + WIDTH - right) / 2, depth + 28, unit, "unit", "center")
    return Chart(title, "", _svg(figure, title, hints))


def _draw_box(axes: Axes, box: Box, y: float, unit: str) -> list[str]:
    """Draw a box; the hints of its dots."""
    pairs = [(value, name) for value, name in zip(box.values, box.names, strict=True) if math.isfinite(value)]
    if not pairs:
        axes.text(0.01, y + 4, "no value", transform=axes.get_yaxis_transform(), gid="unit")
        return []
    known = np.array([value for value, _ in pairs])
    low, middle, high = np.percentile(known, (25, 50, 75)).tolist()
    near = known[(known >= low - 1.5 * (high - low)) & (known <= high + 1.5 * (high - low))]
    axes.plot((near.min(), near.max()), (y, y), color=box.style.ink, zorder=1, gid="whisker")
    axes.add_patch(Rectangle((low, y - 7), high - low, 14, edgecolor=box.style.ink, gid="box"))
    axes.plot((middle, middle), (y - 7, y + 7), color=box.style.ink, gid="median")
    axes.plot(known, np.full(len(known), y), "o", color=box.style.ink, gid="dot")
    return [f"{name}: {value:.2f} {unit}" for value, name in pairs]


def _axes(height: float, left: float, right: float, top: float, bottom: float) -> tuple[Figure, Axes]:
    """A figure whose unit is one pixel of the page, and axes with these margins."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
    place = left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - top - bottom) / height
    axes = figure.add_axes(place)
    axes.spines[:].set_visible(False)
    return figure, axes


def _scale(axes: Axes, across: Sequence[float], up: Sequence[float]) -> None:
    for axis, ticks in ((axes.xaxis, across), (axes.yaxis, up)):
        axis.set_ticks(ticks, [short(tick) for tick in ticks])
        axis.set_minor_locator(NullLocator())
        axis.set_tick_params(length=0, pad=6, labelsize=11)
        for label in axis.get_ticklabels():
            label.set_gid("tick")


def _write(figure: Figure, x: float, y: float, text: str, kind: str, anchor: str = "left") -> None:
    """Text at a place in units from the upper left corner."""
    height = 72 * figure.get_figheight()
    figure.text(x / WIDTH, 1 - y / height, text, ha=anchor, va="baseline", fontsize=11, gid=kind, parse_math=False)


def _label_ends(figure: Figure, axes: Axes, lines: Sequence[Line]) -> None:
    """Labels at the ends of curves; where these meet they are moved apart."""
    places = [(*axes.transData.transform(line.points[-1]), line.label) for line in lines]
    lowest = -math.inf
    for x, y, label in sorted(places, key=lambda place: -place[1]):
        lowest = max(HEIGHT - y, lowest + 12)
        _write(figure, x + 5, lowest + 4, label, "end")


def _svg(figure: Figure, label: str, hints: Sequence[str] = ()) -> Markup:
    """The figure as SVG: lines, dots and texts with their class and colour, and nothing else of matplotlib's."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        # Glyphs that matplotlib's own font lacks are found by the browser.
        warnings.simplefilter("ignore")
        figure.savefig(file, format="svg")
    drawn = ElementTree.fromstring(file.getvalue())  # nosec B314
    box = drawn.attrib["viewBox"]
    picture = ElementTree.Element("svg", {"viewBox": box, "role": "img", "aria-label": printable(label)})
    picture.extend(_parts(drawn, "", iter(hints)))
    return Markup(ElementTree.tostring(picture, encoding="unicode"))  # nosec B704


def _parts(drawn: ElementTree.Element, kind: str, hints: Iterator[str]) -> Iterator[ElementTree.Element]:
    """Lines, dots and texts inside an element, whatever groups they are in."""
    for found in drawn:
        name, inside = found.tag.rpartition("}")[2], found.get("id", "")
        if name == "g":
            yield from _parts(found, inside if inside in KINDS else kind, hints)
        elif kind and name in ("path", "text", "use"):
            style = dict(part.split(": ", 1) for part in found.get("style", "").split("; ") if part)
            yield _part(name, kind, {**style, **found.attrib}, found.text, hints)


def _part(name: str, kind: str, given: dict[str, str], text: str | None, hints: Iterator[str]) -> ElementTree.Element:
    if name == "use":
        place = {"cx": _rounded(given["x"]), "cy": _rounded(given["y"]), "r": "2.2", "fill": given["fill"]}
        part = ElementTree.Element("circle", {**place, "class": kind})
        if hint := next(hints, None):
            ElementTree.SubElement(part, "title").text = printable(hint)
        return part
    kept = ["x", "y", "text-anchor"] if name == "text" else ["d", "stroke", "stroke-dasharray"]
    if kind in ("grid", "frame"):
        kept = ["d"]
    part = ElementTree.Element(name, {key: _rounded(given[key]) for key in kept if given.get(key)}, **{"class": kind})
    part.text = text
    return part


def _rounded(numbers: str) -> str:
    """Coordinates with two decimals."""
    shorter = re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), numbers)
    return re.sub(r"\s*\b([MLz])\s*", r"\1", shorter).strip()
