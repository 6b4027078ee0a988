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
    Line,
    box_plot,
    line_chart,
    linear_axis,
    style_of,
    thinned,
    value_axis,
)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_axes_hold_their_values(low: float, span: float) -> None:
    axis = linear_axis(low, low + span)
    assert axis.low <= low + 1e-9 * (abs(low) + span)
    assert axis.high >= low + span - 1e-9 * (abs(low) + span)
    assert 2 <= len(axis.ticks) <= 13


def test_axes_are_round() -> None:
    assert linear_axis(0.03, 0.97).ticks == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert linear_axis(5, 5).low < 5 < linear_axis(5, 5).high
    assert value_axis([0.001, 2.0]).log
    assert not value_axis([0.0, 2.0]).log
    assert value_axis([0.001, 2.0]).place(1.0) == pytest.approx(0.75)


def elements(figure: str, name: str) -> list[ElementTree.Element]:
    return [found for found in ElementTree.fromstring(figure).iter() if found.tag == name]


def test_a_curve_goes_through_its_points() -> None:
    figure = line_chart("loss", [Line("A", [(0, 1.0), (50, math.nan), (100, 0.0)], style_of(0))])
    (line,) = elements(figure, "polyline")
    (x0, y0), (x1, y1) = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    ticks = {found.text: found for found in elements(figure, "text")}
    assert x0 == pytest.approx(float(ticks["0"].attrib["x"]), abs=10)
    assert x1 == pytest.approx(float(ticks["100"].attrib["x"]), abs=0.1)
    assert y0 < y1


def test_no_values_no_chart() -> None:
    assert line_chart("loss", [Line("A", [(1, math.nan)], style_of(0))]) == ""


def test_labels_of_equal_curves_are_apart() -> None:
    lines = [Line(f"run{index}", [(0, 1.0), (1, 2.0)], style_of(index)) for index in range(4)]
    ends = [
        float(found.attrib["y"]) for found in elements(line_chart("x", lines), "text") if found.get("class") == "end"
    ]
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


def test_boxes_are_quartiles() -> None:
    values = [0.0, 10.0, 20.0, 30.0, 100.0]
    figure = box_plot(
        "Dice", [("organ", [Box("A", values, list("abcde"), style_of(0))])], linear_axis(0, 100), unit="%"
    )
    (box,) = [found for found in elements(figure, "rect") if found.get("class") == "box"]
    ticks = {found.text: float(found.attrib["x"]) for found in elements(figure, "text") if found.text in ("0", "100")}
    unit = (ticks["100"] - ticks["0"]) / 100
    assert float(box.attrib["x"]) == pytest.approx(ticks["0"] + 10 * unit, abs=0.02)
    assert float(box.attrib["width"]) == pytest.approx(20 * unit, abs=0.02)
    assert len(elements(figure, "circle")) == 5
    assert re.search("e: 100.00 %", figure)


def test_a_class_without_values_says_so() -> None:
    figure = box_plot("Dice", [("organ", [Box("A", [math.nan], ["a"], style_of(0))])], linear_axis(0, 1), unit="%")
    assert "no value" in figure
