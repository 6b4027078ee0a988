"""The results of a comparison: rows for programs, tables for people, files for both."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from semiseg.comparison.outcomes import Outcome, as_csv, cases_csv, summary_csv
from semiseg.comparison.published import Paper, PublishedFigure, published_figures
from semiseg.comparison.statistics import Group, Line, groups_of, lines_of
from semiseg.comparison.tables import Table, comma_separated, cost_tables, document, latex, paper_tables, score_tables
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
        published: the papers' figures by line.
        test: the paired test of the lines.
    """

    output: Path
    outcomes: Sequence[Outcome]
    groups: Sequence[Group]
    lines: Sequence[Line]
    complete: bool
    published: Mapping[Line, Sequence[PublishedFigure]] = field(default_factory=dict)
    test: PairedTest = "wilcoxon"

    @property
    def failures(self) -> list[str]:
        """Name and message of each cell that failed."""
        return [failure for group in self.groups for failure in group.failures]

    @property
    def tables(self) -> list[Table]:
        """Scores, tests, classes, and the papers' figures where they were asked for."""
        return [
            *score_tables(self.groups, self.lines, self.test),
            *paper_tables(self.groups, self.lines, self.published),
        ]

    @property
    def costs(self) -> list[Table]:
        """Label budgets, protocols and times."""
        return cost_tables(self.groups)

    def frame(self) -> pd.DataFrame:
        """A row per method, budget, class and metric: statistics, label budget, protocol, cost."""
        costs = [{name: line.group.known(name) for name in _COSTS} for line in self.lines]
        return pd.concat([self.statistics, pd.DataFrame(costs, columns=_COSTS)], axis=1)

    @cached_property
    def statistics(self) -> pd.DataFrame:
        """The same without the cost, which differs from one training to the next."""
        papers = sorted({figure.paper for figures in self.published.values() for figure in figures})
        rows = [_row(line, self.test) | _published(papers, self.published.get(line, ())) for line in self.lines]
        return pd.DataFrame(rows)

    def write(self) -> None:
        """Write `cases.csv`, `summary.csv`, `table.*` (which repeat bit for bit) and `costs.*` (which hold times).

        Raises:
            InputError: the folder cannot be written.
        """
        name = self.output.name
        scores, costs = self.tables, self.costs
        heading = f"# Comparison {name}\n"
        texts = {
            "cases.csv": cases_csv(self.outcomes),
            "summary.csv": summary_csv(self.outcomes, name),
            "table.csv": as_csv(self.statistics, digits=6),
            "table.json": _json(self.statistics, [note for table in scores for note in table.notes]),
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
    figures = {line: published_figures(line, paper.dataset) for line in lines} if paper.shown else {}
    return Results(output, outcomes, groups, lines, complete, figures, test)


def _row(line: Line, test: PairedTest) -> dict[str, Any]:
    group = line.group
    return {
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


def _published(papers: Sequence[str], figures: Sequence[PublishedFigure]) -> dict[str, Any]:
    """The figures of all `papers`, with nothing where one has none for the line."""
    by_paper = {figure.paper: figure for figure in figures}
    found: dict[str, Any] = {}
    for paper in papers:
        figure = by_paper.get(paper)
        differs = None if figure is None else figure.differs
        found |= {
            f"{paper}_value": figure.value if figure else math.nan,
            f"{paper}_std": math.nan if figure is None or figure.std is None else figure.std,
            f"{paper}_source": figure.source if figure else "",
            f"{paper}_selection": figure.selection if figure else "",
            f"{paper}_differs": "" if differs is None else str(int(differs)),
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


def _json(rows: pd.DataFrame, notes: Sequence[str]) -> str:
    """The rows of `table.csv` and the notes of the tables; null where there is no number."""
    known = [{key: None if value != value else value for key, value in row.items()} for row in rows.to_dict("records")]
    return json.dumps({"notes": list(dict.fromkeys(notes)), "rows": known}, indent=1, ensure_ascii=False) + "\n"
