"""The results of a comparison: rows for programs, tables for people, files for both."""

from __future__ import annotations

import json
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
from semiseg.metrics.statistics import Comparison, Interval, PairedTest
from semiseg.system.files import write_text

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
        test: the paired test of the lines.
    """

    output: Path
    outcomes: Sequence[Outcome]
    groups: Sequence[Group]
    lines: Sequence[Line]
    complete: bool
    beside: Mapping[Line, Sequence[Printed]] = field(default_factory=dict)
    test: PairedTest = "wilcoxon"

    @property
    def failures(self) -> list[str]:
        """Name and message of each cell that failed."""
        return [failure for group in self.groups for failure in group.failures]

    @property
    def tables(self) -> list[Table]:
        """Scores, tests, classes, and the papers' figures where they were asked for."""
        return [*score_tables(self.groups, self.lines, self.test), *paper_tables(self.groups, self.lines, self.beside)]

    @property
    def costs(self) -> list[Table]:
        """Label budgets, protocols and times."""
        return cost_tables(self.groups)

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary per method, budget, class and metric: statistics, label budget, protocol, cost."""
        return [
            {**row, **{name: line.group.known(name) for name in _COSTS}}
            for line, row in zip(self.lines, self._rows(), strict=True)
        ]

    def _rows(self) -> list[dict[str, Any]]:
        return [_row(line, self.test, self.beside.get(line, ())) for line in self.lines]

    def write(self) -> None:
        """Write `cases.csv`, `summary.csv`, `table.*` (which repeat bit for bit) and `costs.*` (which hold times).

        Raises:
            InputError: the folder cannot be written.
        """
        name = self.output.name
        found = self._rows()
        header = list(dict.fromkeys(column for row in found for column in row))
        scores, costs = self.tables, self.costs
        heading = f"# Comparison {name}\n"
        texts = {
            "cases.csv": cases_csv(self.outcomes),
            "summary.csv": summary_csv(self.outcomes, name),
            "table.csv": as_csv(header, [[_text(row.get(column, "")) for column in header] for row in found]),
            "table.json": _json(found, [note for table in scores for note in table.notes]),
            "table.md": f"{heading}\n{document(scores)}",
            "table.tex": "\n".join(map(latex, scores)),
            "costs.csv": comma_separated(costs),
            "costs.md": f"{heading}\n{document(costs)}",
            "costs.tex": "\n".join(map(latex, costs)),
        }
        for file, text in texts.items():
            write_text(self.output / file, text)


def results_of(
    outcomes: Sequence[Outcome], output: Path, complete: bool, paper: Paper, test: PairedTest = "wilcoxon"
) -> Results:
    """Statistics of the outcomes, with the papers' figures where `paper` asks for them."""
    groups = groups_of(outcomes)
    lines = lines_of(groups, test)
    printed = {line: beside(line, paper.dataset) for line in lines} if paper.shown else {}
    return Results(output, outcomes, groups, lines, complete, printed, test)


def as_frame(rows: list[dict[str, Any]]) -> Any:
    """The rows as a pandas DataFrame where pandas is installed, else as they are."""
    try:
        import pandas
    except ImportError:
        return rows
    return pandas.DataFrame(rows)


def _row(line: Line, test: PairedTest, printed: Sequence[Printed]) -> dict[str, Any]:
    group = line.group
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
        "updates": ", ".join(str(updates) for updates, _ in group.training),
        "labelled_patches": ", ".join(dict.fromkeys(str(patches) for _, patches in group.training)),
        "cases": line.cases,
        "patients": line.patients,
        "mean": line.mean,
        "spread": line.spread,
        "low": line.low,
        "high": line.high,
        "test": test,
        "control": group.control("plain"),
        **_against(line.against, line.p_holm),
        "kind_control": group.control("kin"),
        **{f"kind_{name}": value for name, value in _against(line.against_kin, line.p_holm_kin).items()},
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


def _against(found: Comparison | None, p_holm: float) -> dict[str, float]:
    """A paired difference; `pairs` are patients."""
    difference = found.difference if found else Interval(math.nan, math.nan, math.nan)
    return {
        "difference": difference.mean,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "pairs": found.patients if found else 0,
        "p": found.p if found else math.nan,
        "p_holm": p_holm,
    }


def _json(rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> str:
    """The rows of `table.csv` and the notes of the tables; null where there is no number."""
    known = [{key: None if isinstance(x, float) and math.isnan(x) else x for key, x in row.items()} for row in rows]
    return json.dumps({"notes": list(dict.fromkeys(notes)), "rows": known}, indent=1, ensure_ascii=False) + "\n"


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
