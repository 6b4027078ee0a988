"""Charts: round axes, points where the values are, labels that do not cover each other."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiseg.reports.charts import (
    DASHES,
    INKS,
    POINTS,
    Box,
    Chart,
    Line,
    box_plot,
    line_chart,
    round_ticks,
    style_of,
    thinned,
)

HOSTILE = "</script><img src=x onerror=alert(1)> $x_1$ {0} \x00\u202e"


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_axes_hold_their_values(low: float, span: float) -> None:
    ticks = round_ticks(low, low + span)
    assert ticks[0] <= low + 1e-9 * (abs(low) + span)
    assert ticks[-1] >= low + span - 1e-9 * (abs(low) + span)
    assert 2 <= len(ticks) <= 13


def test_axes_are_round() -> None:
    assert round_ticks(0.03, 0.97) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    ticks = round_ticks(5, 5)
    assert ticks[0] < 5 < ticks[-1]


def drawn(chart: Chart | None, kind: str) -> list[ElementTree.Element]:
    assert chart is not None
    return [found for found in ElementTree.fromstring(chart.svg).iter() if found.get("class") == kind]


def corners(path: ElementTree.Element) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split())) for pair in re.findall(r"[ML]([-\d. ]+)", path.attrib["d"])]  # type: ignore[misc]


def ticks(chart: Chart | None) -> dict[str, tuple[float, float]]:
    return {str(found.text): (float(found.attrib["x"]), float(found.attrib["y"])) for found in drawn(chart, "tick")}


def line(*values: float, label: str = "A", index: int = 0) -> Line:
    return Line(label, list(enumerate(values)), style_of(index))


def test_a_curve_goes_through_its_points() -> None:
    chart = line_chart("loss", [Line("A", [(0, 1.0), (50, math.nan), (100, 0.0)], style_of(0))])
    (curve,) = drawn(chart, "curve")
    (x0, y0), (x1, y1) = corners(curve)
    places = ticks(chart)
    assert x0 == pytest.approx(places["0"][0], abs=10)
    assert x1 == pytest.approx(places["100"][0], abs=0.1)
    assert y0 < y1
    assert y0 == pytest.approx(places["1"][1] - 4, abs=1)


def test_wide_ranges_are_logarithmic() -> None:
    chart = line_chart("loss", [line(0.001, 1.0, 2.0)])
    assert chart is not None
    assert "logarithmic" in chart.unit
    places = ticks(chart)
    assert set(places) >= {"0.001", "0.1", "10"}
    _, (_, middle), _ = corners(drawn(chart, "curve")[0])
    low, high = places["0.001"][1], places["10"][1]
    assert middle == pytest.approx(low + 0.75 * (high - low) - 4, abs=1)
    for other in (line_chart("loss", [line(0.0, 2.0)]), line_chart("rate", [line(0.001, 2.0)], from_zero=True)):
        assert other is not None
        assert "logarithmic" not in other.unit
        assert "0" in ticks(other)


def test_no_values_no_chart() -> None:
    assert line_chart("loss", [Line("A", [(1, math.nan)], style_of(0))]) is None


def test_one_value_is_a_dot() -> None:
    chart = line_chart("loss", [line(3.0)])
    assert len(drawn(chart, "dot")) == 1
    assert drawn(chart, "curve") == []


def test_labels_of_equal_curves_are_apart() -> None:
    chart = line_chart("x", [line(1.0, 2.0, label=f"run{index}", index=index) for index in range(4)])
    ends = [float(found.attrib["y"]) for found in drawn(chart, "end")]
    assert len(ends) == 4
    assert np.diff(sorted(ends)).min() >= 12


def test_long_curves_are_averaged() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    found = thinned(list(enumerate(values.tolist())))
    assert len(found) == POINTS
    assert found[-1][0] == 9999
    assert np.mean([y for _, y in found]) == pytest.approx(values.mean(), abs=1e-3)


def test_styles_differ_for_many_runs() -> None:
    styles = [style_of(index) for index in range(len(INKS) * len(DASHES))]
    assert len({(style.ink, style.dash) for style in styles}) == len(styles)


def test_curves_have_the_style_of_their_run() -> None:
    chart = line_chart("x", [line(1.0, 2.0, index=index) for index in range(3)])
    found = [(curve.get("stroke"), curve.get("stroke-dasharray")) for curve in drawn(chart, "curve")]
    assert found == [(INKS[0], None), (INKS[1], "7,3"), (INKS[2], "2,2.5")]


def test_boxes_are_quartiles() -> None:
    values = [0.0, 10.0, 20.0, 30.0, 100.0]
    groups = [("organ", [Box("A", values, list("abcde"), style_of(0))])]
    chart = box_plot("Dice", groups, unit="%", from_zero=False)
    (box,) = drawn(chart, "box")
    places = ticks(chart)
    zero, unit = places["0"][0], (places["100"][0] - places["0"][0]) / 100
    across = [x for x, _ in corners(box)]
    assert min(across) == pytest.approx(zero + 10 * unit, abs=0.02)
    assert max(across) == pytest.approx(zero + 30 * unit, abs=0.02)
    assert corners(drawn(chart, "median")[0])[0][0] == pytest.approx(zero + 20 * unit, abs=0.02)
    whisker = [x for x, _ in corners(drawn(chart, "whisker")[0])]
    assert whisker == pytest.approx([zero, zero + 30 * unit], abs=0.02)
    dots = drawn(chart, "dot")
    assert [float(dot.attrib["cx"]) for dot in dots] == pytest.approx([zero + v * unit for v in values], abs=0.02)
    assert [dot[0].text for dot in dots] == [f"{n}: {v:.2f} %" for n, v in zip("abcde", values, strict=True)]


def test_a_class_without_values_says_so() -> None:
    boxes = [Box("A", [math.nan], ["a"], style_of(0)), Box("B", [1.0], ["a"], style_of(1))]
    chart = box_plot("Dice", [("organ", boxes)], unit="%", from_zero=False)
    assert [found.text for found in drawn(chart, "unit")] == ["no value", "%"]
    assert box_plot("Dice", [("organ", boxes[:1])], unit="%", from_zero=False) is None


def test_names_are_text_whatever_they_are() -> None:
    """Neither markup nor mathematics, and scripts that matplotlib's font does not have."""
    shown = HOSTILE.replace("\x00", "\ufffd").replace("\u202e", "\ufffd")
    lines = [line(1.0, 2.0, label=HOSTILE), line(1.0, 3.0, label="肝臓")]
    chart = line_chart(HOSTILE, lines, right=104)
    assert chart is not None
    assert chart.svg.startswith("<svg ")
    assert "<img" not in chart.svg
    assert {found.text for found in drawn(chart, "end")} == {shown[:13] + "…", "肝臓"}
    boxes = box_plot("Dice", [("$x^2$ <b>", [Box("A", [1.0], [HOSTILE], style_of(0))])], unit="%", from_zero=True)
    assert [found.text for found in drawn(boxes, "group")] == ["$x^2$ <b>"]
    assert drawn(boxes, "dot")[0][0].text == f"{shown}: 1.00 %"


def test_a_chart_has_no_style_of_its_own_and_says_what_it_shows() -> None:
    """The security policy of the page forbids styles; a screen reader reads the label."""
    chart = line_chart("loss", [line(1.0, 0.25)])
    assert chart is not None
    root = ElementTree.fromstring(chart.svg)
    assert root.attrib["aria-label"] == "loss: A from 1 to 0.25"
    assert root.attrib["role"] == "img"
    assert {found.tag for found in root.iter()} <= {"svg", "path", "text"}
    assert not any({"style", "id"} & set(found.attrib) for found in root.iter())


def test_equal_values_give_equal_bytes() -> None:
    assert line_chart("loss", [line(1.0, 0.25)]) == line_chart("loss", [line(1.0, 0.25)])
