"""The results of a comparison: rows for programs, tables for people, files for both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semiseg.comparison.beside import Paper, Printed, beside
from semiseg.comparison.gather import Outcome, as_csv, cases_csv, summary_csv
from semiseg.comparison.lines import Group, Line, groups_of, lines_of
from semiseg.comparison.render import Table, comma_separated, document, latex
from semiseg.comparison.tables import cost_tables, paper_tables, score_tables
from semiseg.files import write_text

_COSTS = (
    *("steps", "seconds", "seconds_per_step", "patches_per_second", "peak_memory"),
    *("parameters", "flops_per_step"),
)


@dataclass(frozen=True)
class Results:
    """What came of a comparison.

    Attributes:
        complete: whether every cell was worked on; False after a signal.
        beside: the papers' figures by line.
    """

    output: Path
    outcomes: Sequence[Outcome]
    groups: Sequence[Group]
    lines: Sequence[Line]
    complete: bool
    beside: Mapping[Line, Sequence[Printed]] = field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        """Name and message of each cell that failed."""
        return [failure for group in self.groups for failure in group.failures]

    @property
    def tables(self) -> list[Table]:
        """Scores, tests, classes, and the papers' figures where they were asked for."""
        return [*score_tables(self.groups, self.lines), *paper_tables(self.groups, self.lines, self.beside)]

    @property
    def costs(self) -> list[Table]:
        """Label budgets, protocols and times."""
        return cost_tables(self.groups)

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary per method, budget, class and metric: statistics, label budget, protocol, cost."""
        return [
            {**_row(line, self.beside.get(line, ())), **{name: line.group.known(name) for name in _COSTS}}
            for line in self.lines
        ]

    def write(self) -> None:
        """Write `cases.csv`, `summary.csv`, `table.*` (which repeat bit for bit) and `costs.*` (which hold times).

        Raises:
            InputError: the folder cannot be written.
        """
        name = self.output.name
        found = [_row(line, self.beside.get(line, ())) for line in self.lines]
        header = list(dict.fromkeys(column for row in found for column in row))
        scores, costs = self.tables, self.costs
        heading = f"# Comparison {name}\n"
        texts = {
            "cases.csv": cases_csv(self.outcomes),
            "summary.csv": summary_csv(self.outcomes, name),
            "table.csv": as_csv(header, [[_text(row.get(column, "")) for column in header] for row in found]),
            "table.md": f"{heading}\n{document(scores)}",
            "table.tex": "\n".join(map(latex, scores)),
            "costs.csv": comma_separated(costs),
            "costs.md": f"{heading}\n{document(costs)}",
            "costs.tex": "\n".join(map(latex, costs)),
        }
        for file, text in texts.items():
            write_text(self.output / file, text)


def results_of(outcomes: Sequence[Outcome], output: Path, complete: bool, paper: Paper) -> Results:
    """Statistics of the outcomes, with the papers' figures where `paper` asks for them."""
    groups = groups_of(outcomes)
    lines = lines_of(groups)
    printed = {line: beside(line, paper.dataset) for line in lines} if paper.shown else {}
    return Results(output, outcomes, groups, lines, complete, printed)


def as_frame(rows: list[dict[str, Any]]) -> Any:
    """The rows as a pandas DataFrame where pandas is installed, else as they are."""
    try:
        import pandas
    except ImportError:
        return rows
    return pandas.DataFrame(rows)


def _row(line: Line, printed: Sequence[Printed]) -> dict[str, Any]:
    group, against = line.group, line.against
    found = {
        "preset": group.preset,
        "budget": group.budget,
        "method": group.label,
        "role": group.role,
        "class": line.name,
        "metric": line.metric,
        "labels": group.labels,
        "protocol": group.protocol,
        "trainings": len(group.done),
        "failed": len(group.failures),
        "cases": line.cases,
        "mean": line.mean,
        "spread": line.spread,
        "low": line.low,
        "high": line.high,
        "difference": against.difference.mean if against else math.nan,
        "difference_low": against.difference.low if against else math.nan,
        "difference_high": against.difference.high if against else math.nan,
        "pairs": against.cases if against else 0,
        "p": against.p if against else math.nan,
        "p_holm": line.p_holm,
    }
    for one in printed:
        found |= {
            f"{one.paper}_value": one.value,
            f"{one.paper}_std": math.nan if one.std is None else one.std,
            f"{one.paper}_source": one.source,
            f"{one.paper}_selection": one.selection,
            f"{one.paper}_differs": "" if one.differs is None else int(one.differs),
        }
    return found


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
