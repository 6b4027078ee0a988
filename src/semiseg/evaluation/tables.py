"""Tables of scores for people: what was measured, in which unit, and by which rule is part of the table."""

from __future__ import annotations

import io
import math

from rich import box
from rich.console import Console
from rich.table import Table

from semiseg.evaluation.scores import Scores, Summary, empty_counts
from semiseg.metrics.base import shown_columns
from semiseg.metrics.empty import EMPTY_RULES


def rich_table(scores: Scores) -> Table:
    """Mean ± standard deviation over cases per class, the mean over classes, and the definitions below."""
    table = Table(box=box.SIMPLE, caption=definitions(scores), caption_justify="left", pad_edge=False)
    table.add_column("class")
    columns = shown_columns(scores.unit)
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    table.add_column("cases", justify="right")
    table.add_column("empty P/T", justify="right")
    labels = range(1, len(scores.class_names))
    for label in labels:
        cells = [_cell(scores.summary(column.name, label), column.factor) for column in columns]
        counts = empty_counts(scores.of_class(label))
        empty = f"{counts['empty_predictions']}/{counts['empty_truths']}"
        defined = scores.summary("dice", label).count
        table.add_row(scores.class_names[label], *cells, str(defined), empty, end_section=label == labels[-1])
    if len(labels) > 1:
        means = (_number(scores.mean(column.name) * column.factor) for column in columns)
        table.add_row("mean", *means, "", "", style="bold")
    return table


def plain(scores: Scores) -> str:
    """The table as text without colours."""
    table = rich_table(scores)
    file = io.StringIO()
    console = Console(file=file, width=1000, color_system=None, highlight=False)
    table.caption = None
    console.print(table)
    lines = [line.removeprefix(" ").rstrip() for line in file.getvalue().splitlines() if line.strip()]
    return "\n".join([*lines, "", definitions(scores)])


def definitions(scores: Scores) -> str:
    """What the columns mean for these scores, one statement per line."""
    patients = len(set(scores.patients.values()))
    whose = f" of {patients} patient{'s' * (patients != 1)}" if patients else ""
    return "\n".join(
        [
            *([f"NOT AN HONEST RESULT: {', '.join(scores.stamps)}"] if scores.stamps else []),
            f"mean ± standard deviation over {len(scores.cases)} cases{whose}; P prediction, T truth",
            *dict.fromkeys(f"{each.metric.label}: {each.metric.definition}" for each in shown_columns(scores.unit)),
            f"empty masks, rule {scores.empty!r}: {EMPTY_RULES[scores.empty]}",
            f"largest component of each predicted class only: {'yes' if scores.largest_component else 'no'}",
        ]
    )


def _cell(summary: Summary, factor: float) -> str:
    if math.isnan(summary.std):
        return _number(summary.mean * factor)
    return f"{_number(summary.mean * factor)} ± {summary.std * factor:.2f}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
