"""The parts of a report that show how the training went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from semiseg.reports.charts import Chart, Line, line_chart, style_of
from semiseg.reports.records import Record

Curve = list[tuple[int, float]]

NAMED = 104
"""Units of a chart's width for names at the ends of its curves."""


@dataclass(frozen=True)
class Curves:
    """Charts of the log with notes below, each of which may begin with the key of a run.

    Attributes:
        logged: runs whose logs are shown.
    """

    charts: tuple[Chart, ...]
    notes: tuple[tuple[str, str], ...]
    logged: tuple[Record, ...]


def losses(records: Sequence[Record]) -> Curves:
    """A chart per loss term, learning rate and speed, with a line per run."""
    terms = list(dict.fromkeys(name for record in records for name in record.names("loss")))
    terms.sort(key=lambda name: name != "total")
    charts = [line_chart(f"loss: {name}", _lines(records, "loss", name)) for name in terms]
    for title, group in (("learning rate", "lr"), ("patches per second", "patches_per_second")):
        charts.append(line_chart(title, _lines(records, group), from_zero=True))
    if not any(charts):
        return Curves((), (("", "The log has no records yet."),), ())
    last = {record.key: int(curve[-1][1]) for record in records if (curve := record.curve("skipped"))}
    bad = ", ".join(f"{key}: {count}" for key, count in last.items() if count)
    skipped = f"Updates left out because the loss was not finite: {bad or 'none'}."
    return Curves(tuple(filter(None, charts)), (("", skipped),), tuple(records))


def _lines(records: Sequence[Record], group: str, name: str | None = None) -> list[Line]:
    return [Line(record.key, record.curve(group, name), style_of(record.index)) for record in records]


def validation(records: Sequence[Record]) -> Curves:
    """Validation scores of the runs, and of each network by itself where they were asked for."""
    validated = [record for record in records if record.curve("validation", "dice")]
    lines = [Line(record.key, _dice(record), style_of(record.index)) for record in validated]
    charts = [line_chart("validation: mean Dice", lines, unit="%")]
    for record in validated:
        networks = _in_percent(record, "networks")
        if networks and _dice(record) not in networks.values():  # else one of them is what predicts
            networks = {"prediction": _dice(record), **networks}
        charts.append(_named(f"{record.key}: mean Dice of each network", networks))
    notes = tuple((record.key, _about_selection(record)) for record in records)
    return Curves(tuple(filter(None, charts)), notes, tuple(validated))


def _dice(record: Record) -> Curve:
    return [(step, 100 * value) for step, value in record.curve("validation", "dice")]


def _in_percent(record: Record, name: str) -> dict[str, Curve]:
    """A curve per name, of validations that are logged as a mapping of names to shares."""
    curves: dict[str, Curve] = {}
    for step, found in record.values("validation", name):
        for key, value in found.items() if isinstance(found, dict) else ():
            if isinstance(value, int | float):
                curves.setdefault(key, []).append((step, 100 * float(value)))
    return curves


def _named(title: str, curves: Mapping[str, Curve], unit: str = "%") -> Chart | None:
    """A chart with a named line per curve."""
    lines = [Line(name, points, style_of(index)) for index, (name, points) in enumerate(curves.items())]
    return line_chart(title, lines, unit=unit, right=NAMED)


def _about_selection(record: Record) -> str:
    if record.config.select == "last":
        return ": no validation; the weights of the last step were taken."
    where = "validation scans, whose labels are part of the label budget"
    if record.config.selects_on == "test":
        where = "the test scans (test-selected, as the source of these settings does)"
    return f": the best weights were chosen on {where}."


def pseudo_labels(records: Sequence[Record]) -> Curves:
    """Dice per class on validation scans, the only labels within the budget that the model has not learned from."""
    curves = {
        record.key: found
        for record in records
        if record.config.selects_on == "validation" and (found := _in_percent(record, "per_class"))
    }
    charts = (_named(f"{key}: Dice per class on validation scans", found) for key, found in curves.items())
    known = tuple(record for record in records if record.key in curves)
    unknown = ", ".join(record.key for record in records if record.key not in curves)
    notes = []
    if known:
        notes.append(
            "Pseudo-labels are what the model predicts on unlabelled scans, and their truth is not known. Shown is "
            "the Dice of the same predictions on the validation scans: their labels are part of the label budget "
            "and are not trained on."
        )
    if unknown:
        notes.append(
            f"Not known for {unknown}: no label within the budget was kept out of training. Labels of "
            "test scans are not used for this. To see it, train with --set select=best --set validation=2."
        )
    return Curves(tuple(filter(None, charts)), tuple(("", note) for note in notes), known)


def observed(records: Sequence[Record]) -> Curves:
    """Class weights, thresholds and whatever else a method logs, with a line per class."""
    charts, notes = [], []
    for record in records:
        for name in record.names("observed"):
            found = [(step, _flat(value)) for step, value in record.values("observed", name)]
            rows = [(step, row) for step, row in found if row]
            if not rows:
                continue
            labels = _labels(record, len(rows[0][1]))
            if all(row == rows[0][1] for _, row in rows):
                values = ", ".join(f"{label} {value:.3g}" for label, value in zip(labels, rows[0][1], strict=False))
                notes.append((record.key, f" {name} did not change: {values}."))
                continue
            lines = [
                Line(label, [(step, row[at]) for step, row in rows if at < len(row)], style_of(at))
                for at, label in enumerate(labels)
            ]
            charts.append(line_chart(f"{record.key}: {name}", lines, right=NAMED))
    if not charts and not notes:
        return Curves((), (("", "None of these methods has class weights or thresholds."),), ())
    return Curves(tuple(filter(None, charts)), tuple(notes), tuple(records))


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
