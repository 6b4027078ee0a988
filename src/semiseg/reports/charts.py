"""Line charts and box plots as inline SVG: black on white, told apart by letters and dashes as well as by colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from semiseg.reports.markup import Markup, join, tag

INKS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
"""Colours of runs (Okabe and Ito); yellow is left out, which white paper swallows."""
DASHES = (None, "7 3", "2 2.5", "9 3 2 3", "12 4", "4 4", "1 3")
"""Line styles beside them; after seven runs both cycles run on against each other."""

POINTS = 300
"""Most points of a line; longer curves are averaged over spans of steps."""


@dataclass(frozen=True)
class Style:
    """How a line looks."""

    ink: str
    dash: str | None


def style_of(index: int) -> Style:
    """Colour and dashes of run `index`."""
    return Style(INKS[index % len(INKS)], DASHES[(index + index // len(INKS)) % len(DASHES)])


@dataclass(frozen=True)
class Line:
    """A curve: label at its end, points in the order of x, and looks."""

    label: str
    points: Sequence[tuple[float, float]]
    style: Style


@dataclass(frozen=True)
class Axis:
    """A range of values with its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Position from 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear_axis(low: float, high: float, count: int = 5) -> Axis:
    """A range around [low, high] that begins and ends at round numbers."""
    if not high > low:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    raw = (high - low) / count
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(index * step, 12) for index in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def _log_axis(low: float, high: float) -> Axis:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max((last - first) // 4, 1)
    return Axis(10.0**first, 10.0**last, tuple(10.0**power for power in range(first, last + 1, stride)), log=True)


def value_axis(values: Sequence[float]) -> Axis:
    """A logarithmic axis where positive values span more than two powers of ten, else a linear one."""
    low, high = min(values), max(values)
    return _log_axis(low, high) if low > 0 and high / low > 100 else linear_axis(low, high)


WIDTH, HEIGHT = 460, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 26, 10, 34


def line_chart(
    title: str, lines: Sequence[Line], *, unit: str = "", axis: Axis | None = None, right: int = RIGHT
) -> Markup:
    """Curves over training steps in a `figure`, `right` units of space for the labels at their ends.

    Empty where there is no finite value.
    """
    shown = [Line(line.label, thinned(line.points), line.style) for line in lines]
    shown = [line for line in shown if line.points]
    if not shown:
        return Markup()
    across = linear_axis(0, max(x for line in shown for x, _ in line.points), 4)
    up = axis or value_axis([y for line in shown for _, y in line.points])
    caption = join([title, tag("span", f" ({unit})" if unit else "", class_="unit")])
    if up.log:
        caption = join([caption, tag("span", " logarithmic", class_="unit")])
    body = [*_grid(across, up, WIDTH - right), *_curves(shown, across, up, WIDTH - right)]
    label = f"{title}: {_spoken(shown)}"
    picture = tag("svg", *body, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)
    return tag("figure", tag("figcaption", caption), picture, class_="chart")


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Finite points, averaged over equally long pieces where there are more than `POINTS`."""
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    if len(finite) <= POINTS:
        return finite
    pieces = np.array_split(np.array(finite, float), POINTS)
    return [(float(piece[-1, 0]), float(piece[:, 1].mean())) for piece in pieces]


def _spoken(lines: Sequence[Line]) -> str:
    return "; ".join(f"{line.label} from {short(line.points[0][1])} to {short(line.points[-1][1])}" for line in lines)


def _grid(across: Axis, up: Axis, end: int) -> list[Markup]:
    x0, x1, y0, y1 = LEFT, end, HEIGHT - BOTTOM, TOP
    parts = []
    for tick in up.ticks:
        y = y0 + (y1 - y0) * up.place(tick)
        parts.append(tag("line", x1=x0, x2=x1, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", short(tick), x=x0 - 6, y=y + 4, text_anchor="end"))
    for tick in across.ticks:
        x = x0 + (x1 - x0) * across.place(tick)
        parts.append(tag("line", x1=x, x2=x, y1=y0, y2=y0 + 4, class_="frame"))
        parts.append(tag("text", short(tick), x=x, y=y0 + 16, text_anchor="middle"))
    parts.append(tag("text", "training step", x=(x0 + x1) / 2, y=HEIGHT - 4, text_anchor="middle", class_="unit"))
    return [*parts, tag("line", x1=x0, x2=x1, y1=y0, y2=y0, class_="frame")]


def swatch(style: Style) -> Markup:
    """A short piece of a line, for legends."""
    look = {"stroke": style.ink, "stroke_dasharray": style.dash}
    line = tag("line", x1=0, x2=34, y1=6, y2=6, class_="curve", **look)
    return tag("svg", line, viewBox="0 0 34 12", class_="swatch", aria_hidden="true")


def _curves(lines: Sequence[Line], across: Axis, up: Axis, end: int) -> list[Markup]:
    parts: list[Markup] = []
    ends: list[tuple[float, float, Line]] = []
    for line in lines:
        places = [
            (LEFT + (end - LEFT) * across.place(x), HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * up.place(y))
            for x, y in line.points
        ]
        look = {"stroke": line.style.ink, "stroke_dasharray": line.style.dash}
        if len(places) == 1:
            parts.append(tag("circle", cx=places[0][0], cy=places[0][1], r=3, fill=line.style.ink))
        parts.append(tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places), class_="curve", **look))
        ends.append((places[-1][1], places[-1][0], line))
    # Labels at the ends of curves that meet are moved apart.
    lowest = -math.inf
    for wanted, x, line in sorted(ends, key=lambda found: found[0]):
        y = lowest = max(wanted, lowest + 12)
        parts.append(tag("text", line.label, x=x + 5, y=y + 4, class_="end"))
    return parts


@dataclass(frozen=True)
class Box:
    """Values of one class in one run; `names` are the cases."""

    label: str
    values: Sequence[float]
    names: Sequence[str]
    style: Style


def box_plot(title: str, groups: Sequence[tuple[str, Sequence[Box]]], axis: Axis, *, unit: str) -> Markup:
    """Horizontal boxes, one line per run under the name of each class, with a dot per case.

    A box reaches from the first to the third quartile, its bar is the median, whiskers end at the last case within 1.5
    of the box's length.
    """
    left, right, width, pitch = 34, 14, WIDTH, 22

    def place(value: float) -> float:
        return left + (width - left - right) * axis.place(value)

    parts: list[Markup] = []
    y = 4.0
    for name, boxes in groups:
        parts.append(tag("text", clipped(name, 60), x=4, y=y + 14, class_="group"))
        y += 20
        for box in boxes:
            parts.append(tag("text", box.label, x=left - 8, y=y + 15, text_anchor="end", class_="key"))
            parts += _box(box, y + 11, place, unit)
            y += pitch
        y += 4
    frame: list[Markup] = []
    for tick in axis.ticks:
        x = place(tick)
        frame.append(tag("line", x1=x, x2=x, y1=0, y2=y, class_="grid"))
        frame.append(tag("text", short(tick), x=x, y=y + 14, text_anchor="middle"))
    frame.append(tag("text", unit, x=(left + width - right) / 2, y=y + 28, text_anchor="middle", class_="unit"))
    picture = tag("svg", *frame, *parts, viewBox=f"0 0 {width} {y + 34:.0f}", role="img", aria_label=title)
    return tag("figure", tag("figcaption", title), picture, class_="chart")


def _box(box: Box, y: float, place: Callable[[float], float], unit: str) -> list[Markup]:
    pairs = [(value, name) for value, name in zip(box.values, box.names, strict=True) if math.isfinite(value)]
    if not pairs:
        return [tag("text", "no value", x=40, y=y + 4, class_="unit")]
    known = np.array([value for value, _ in pairs])
    low, middle, high = np.percentile(known, (25, 50, 75)).tolist()
    reach = 1.5 * (high - low)
    whiskers = float(known[known >= low - reach].min()), float(known[known <= high + reach].max())
    look = {"stroke": box.style.ink}
    parts = [
        tag("line", x1=place(whiskers[0]), x2=place(whiskers[1]), y1=y, y2=y, **look),
        tag("rect", x=place(low), width=max(place(high) - place(low), 0.5), y=y - 7, height=14, class_="box", **look),
        tag("line", x1=place(middle), x2=place(middle), y1=y - 7, y2=y + 7, class_="median", **look),
    ]
    for value, name in pairs:
        hint = tag("title", f"{name}: {value:.2f} {unit}")
        parts.append(tag("circle", hint, cx=place(value), cy=y, r=2.2, fill=box.style.ink, class_="dot"))
    return parts


def clipped(name: str, length: int) -> str:
    """A name that fits, its end replaced by an ellipsis where it does not."""
    return name if len(name) <= length else name[: length - 1] + "\u2026"


def short(value: float) -> str:
    """A number for an axis."""
    return f"{value:.3g}" if abs(value) < 1000 or value % 1 else f"{value:.0f}"
