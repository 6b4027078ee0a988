"""The part of a report that shows how the training went."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from semiseg.reports.charts import Line, clipped, line_chart, linear_axis, style_of
from semiseg.reports.markup import Markup, join, tag
from semiseg.reports.records import Record
from semiseg.reports.tables import index_of, source


def losses(records: Sequence[Record]) -> Markup:
    """A chart per loss term, learning rate and speed, with a line per run."""
    terms = list(dict.fromkeys(name for record in records for name in record.names("loss")))
    terms.sort(key=lambda name: name != "total")
    charts = [
        line_chart(f"loss: {name}", [_line(record, record.curve("loss", name)) for record in records]) for name in terms
    ]
    charts += [
        _from_zero(records, "learning rate", "lr"),
        _from_zero(records, "patches per second", "patches_per_second"),
    ]
    if not any(charts):
        return tag("p", "The log has no records yet.", class_="note")
    return join([tag("div", *charts, class_="charts"), _skipped(records), source(records, "log.jsonl", "train")])


def _from_zero(records: Sequence[Record], title: str, name: str) -> Markup:
    lines = [_line(record, record.curve(name)) for record in records]
    highest = max((y for line in lines for _, y in line.points if math.isfinite(y)), default=0.0)
    return line_chart(title, lines, axis=linear_axis(0, highest) if highest > 0 else None)


def _line(record: Record, points: Sequence[tuple[float, float]]) -> Line:
    return Line(record.key, points, style_of(index_of(record)))


def _skipped(records: Sequence[Record]) -> Markup:
    last = {record.key: int(curve[-1][1]) for record in records if (curve := record.curve("skipped"))}
    bad = ", ".join(f"{key}: {count}" for key, count in last.items() if count)
    return tag("p", f"Updates left out because the loss was not finite: {bad or 'none'}.", class_="note")


def validation(records: Sequence[Record]) -> Markup:
    """Validation scores, and the quality of pseudo-labels where labels within the budget tell it."""
    validated = [record for record in records if record.curve("validation", "dice")]
    chart = line_chart(
        "validation: mean Dice",
        [_line(record, _percent(record.curve("validation", "dice"))) for record in validated],
        unit="%",
    )
    charts = [chart, *(_network_chart(record) for record in validated)]
    told = [tag("p", _about_selection(record), class_="note") for record in records]
    logged = source(validated, "log.jsonl", "train")
    return join([tag("div", *charts, class_="charts") if any(charts) else Markup(), *told, logged])


def _network_chart(record: Record) -> Markup:
    """Mean Dice of each network by itself beside what predicts; empty where they were not validated."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for step, found in record.values("validation", "networks"):
        for name, value in found.items() if isinstance(found, dict) else ():
            if isinstance(value, int | float):
                curves.setdefault(name, []).append((step, float(value)))
    if not curves:
        return Markup()
    prediction = record.curve("validation", "dice")
    if prediction not in curves.values():  # else one of them is what predicts
        curves = {"prediction": prediction, **curves}
    lines = [
        Line(clipped(name, 14), _percent(points), style_of(index))
        for index, (name, points) in enumerate(curves.items())
    ]
    return line_chart(f"{record.key}: mean Dice of each network", lines, unit="%", right=104)


def _about_selection(record: Record) -> Markup:
    config = record.config
    if config.select == "last":
        return join([tag("b", record.key), ": no validation; the weights of the last step were taken."])
    where = "validation scans, whose labels are part of the label budget"
    if config.selects_on == "test":
        where = "the test scans (test-selected, as the source of these settings does)"
    return join([tag("b", record.key), f": the best weights were chosen on {where}."])


def pseudo_labels(records: Sequence[Record]) -> Markup:
    """Dice per class on validation scans, the only labels within the budget that the model has not learned from."""
    known = [record for record in records if record.config.selects_on == "validation" and _per_class(record)]
    charts = [_class_chart(record) for record in known]
    unknown = [record.key for record in records if record not in known]
    parts = [tag("div", *charts, class_="charts")] if charts else []
    if known:
        parts.append(
            tag(
                "p",
                "Pseudo-labels are what the model predicts on unlabelled scans, and their truth is not known. Shown is "
                "the Dice of the same predictions on the validation scans: their labels are part of the label budget "
                "and are not trained on.",
                class_="note",
            )
        )
        parts.append(source(known, "log.jsonl", "train"))
    if unknown:
        parts.append(
            tag(
                "p",
                f"Not known for {', '.join(unknown)}: no label within the budget was kept out of training. Labels of "
                "test scans are not used for this. To see it, train with --set select=best --set validation=2.",
                class_="note",
            )
        )
    return join(parts)


def _per_class(record: Record) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for step, found in record.values("validation", "per_class"):
        if isinstance(found, dict):
            for name, value in found.items():
                if isinstance(value, int | float):
                    curves.setdefault(name, []).append((step, 100 * float(value)))
    return curves


def _class_chart(record: Record) -> Markup:
    lines = [
        Line(clipped(name, 14), points, style_of(index))
        for index, (name, points) in enumerate(_per_class(record).items())
    ]
    return line_chart(f"{record.key}: Dice per class on validation scans", lines, unit="%", right=104)


def observed(records: Sequence[Record]) -> Markup:
    """Class weights, thresholds and whatever else a method logs, with a line per class."""
    charts, told = [], []
    for record in records:
        for name in record.names("observed"):
            rows = [(step, _flat(value)) for step, value in record.values("observed", name)]
            rows = [(step, row) for step, row in rows if row]
            if not rows:
                continue
            labels = _labels(record, len(rows[0][1]))
            if all(row == rows[0][1] for _, row in rows):
                values = ", ".join(f"{label} {value:.3g}" for label, value in zip(labels, rows[0][1], strict=False))
                told.append(tag("p", tag("b", record.key), f" {name} did not change: {values}.", class_="note"))
                continue
            lines = [
                Line(clipped(label, 14), [(step, row[at]) for step, row in rows if at < len(row)], style_of(at))
                for at, label in enumerate(labels)
            ]
            charts.append(line_chart(f"{record.key}: {name}", lines, right=104))
    if not charts and not told:
        return tag("p", "None of these methods has class weights or thresholds.", class_="note")
    return join([tag("div", *charts, class_="charts"), *told, source(records, "log.jsonl", "train")])


def _flat(value: Any) -> list[float]:
    if isinstance(value, list):
        return [number for item in value for number in _flat(item)]
    return [float(value)] if isinstance(value, int | float) else []


def _labels(record: Record, count: int) -> list[str]:
    names = record.plan.class_names
    if count == 1:
        return [""]
    if count == len(names):
        return list(names)
    return list(names[1:]) if count == len(names) - 1 else [str(index) for index in range(count)]


def _percent(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    return [(step, 100 * value) for step, value in points]
