"""Tables of a comparison, from scores made up by hand."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from semiseg.comparison.beside import Paper, check_known
from semiseg.comparison.cells import Cell, Role
from semiseg.comparison.gather import Outcome
from semiseg.comparison.lines import MEAN, Line, groups_of, lines_of
from semiseg.comparison.render import Table, comma_separated, document, escaped, latex, markdown
from semiseg.comparison.results import Results, results_of
from semiseg.comparison.work import Record
from semiseg.config import load_config
from semiseg.errors import InputError
from semiseg.evaluation.scores import METRICS

CASES = 8
CLASSES = ("liver", "vein")


def outcome(
    label: str, role: Role, dice: np.ndarray, seed: int = 0, *, method: str | None = None, data: str = "set"
) -> Outcome:
    """A finished cell; `dice` is `[classes, cases]`, other metrics are multiples of it."""
    config = load_config(None, {"data": Path(data), "method": method or label, "seed": seed})
    cell = Cell(label, role, "all" if role == "bound" else "l4", 0, seed, "", config)
    factors = {metric: index + 1 for index, metric in enumerate(METRICS)}
    scores = {
        (name, metric): {f"case{i}": float(value * factor) for i, value in enumerate(values)}
        for name, values in zip(CLASSES, dice, strict=True)
        for metric, factor in factors.items()
    }
    record = Record("finished", "", 10, 5.0, 0.5, 8.0, 3 * 2**20, parameters=9_450_000, flops_per_step=2403e9)
    return Outcome(cell, record, scores, (), (80, 0) if role == "bound" else (4, 0), 80, "honest")


def noise(seed: int, mean: float) -> np.ndarray:
    return np.random.default_rng(seed).uniform(mean - 0.1, mean + 0.1, (len(CLASSES), CASES))


@pytest.fixture
def outcomes() -> list[Outcome]:
    found = [outcome("supervised", "control", noise(s, 0.6), s) for s in range(3)]
    found += [outcome("micd", "method", noise(10 + s, 0.8), s) for s in range(3)]
    found += [outcome("cps", "method", noise(20 + s, 0.61), s) for s in range(3)]
    return [*found, *(outcome("supervised", "bound", noise(30 + s, 0.9), s) for s in range(3))]


def results(outcomes: Sequence[Outcome], paper: Paper = Paper()) -> Results:
    return results_of(outcomes, Path("nowhere/toy"), True, paper)


def line_of(lines: Sequence[Line], label: str, role: str, metric: str = "dice", name: str = MEAN) -> Line:
    return next(
        line
        for line in lines
        if (line.group.label, line.group.role, line.metric, line.name) == (label, role, metric, name)
    )


def test_statistics_of_lines_equal_numpy_and_scipy(outcomes: list[Outcome]) -> None:
    lines = lines_of(groups_of(outcomes))
    micd, control = (np.stack([noise(first + s, mean) for s in range(3)]) for first, mean in ((10, 0.8), (0, 0.6)))
    found = line_of(lines, "micd", "method")
    assert found.mean == pytest.approx(micd.mean())
    assert found.spread == pytest.approx(micd.mean(axis=(1, 2)).std(ddof=1))
    assert found.low < found.mean < found.high
    assert found.against is not None
    ours, theirs = micd.mean(axis=(0, 1)), control.mean(axis=(0, 1))  # a case is averaged over seeds and classes
    assert found.against.difference.mean == pytest.approx((ours - theirs).mean())
    assert found.against.p == pytest.approx(stats.wilcoxon(ours, theirs).pvalue)
    other = line_of(lines, "cps", "method")
    assert other.against is not None
    assert found.p_holm == pytest.approx(2 * found.against.p)
    assert other.p_holm == pytest.approx(max(other.against.p, found.p_holm))
    vein = line_of(lines, "micd", "method", "dice", "vein")
    assert vein.mean == pytest.approx(micd[:, 1].mean())
    assert line_of(lines, "supervised", "bound").against is None
    assert line_of(lines, "supervised", "control").against is None


def test_only_seeds_that_both_have_are_compared(outcomes: list[Outcome]) -> None:
    kept = [o for o in outcomes if not (o.cell.label == "micd" and o.cell.seed == 1)]
    failed = Outcome(
        next(o.cell for o in outcomes if (o.cell.label, o.cell.seed) == ("micd", 1)), Record("failed", "x")
    )
    found = line_of(lines_of(groups_of([*kept, failed])), "micd", "method")
    seeds = (0, 2)
    wanted = np.mean([noise(10 + s, 0.8).mean() for s in seeds]) - np.mean([noise(s, 0.6).mean() for s in seeds])
    assert found.against is not None
    assert found.against.difference.mean == pytest.approx(wanted)
    text = document(results([*kept, failed]).tables)
    assert "| micd | 2 of 3 | 4 | honest |" in text
    assert "failed: micd_l4_s1: x" in text


def test_undefined_scores_are_left_out_and_shown_as_none() -> None:
    dice = noise(1, 0.5)
    dice[0] = math.nan
    found = results([outcome("supervised", "control", dice)])
    assert line_of(found.lines, "supervised", "control").mean == pytest.approx(dice[1].mean())
    by_class = next(table for table in found.tables if table.title == "l4: Dice % by class")
    assert by_class.rows == (("supervised (control)", "-", f"{100 * dice[1].mean():.2f}"),)


def test_markdown(outcomes: list[Outcome]) -> None:
    text = document(results(outcomes).tables)
    assert "| method | trainings | labels | protocol | Dice % | Jaccard % | 95HD mm | ASD mm |" in text
    line = line_of(results(outcomes).lines, "micd", "method")
    cell = f"{100 * line.mean:.2f} ± {100 * line.spread:.2f} [{100 * line.low:.2f}, {100 * line.high:.2f}]"
    assert f"| micd | 3 | 4 | honest | {cell} |" in text
    assert "| supervised, all labels | 3 | 80 | honest |" in text
    assert f"{line.p_holm:.4f} *" in text
    assert text.count("95 % bootstrap interval of the mean over cases, which") == 1  # each note once
    assert r"a \| b" in markdown(Table("t", ("a | b",), ()))


def test_latex(outcomes: list[Outcome]) -> None:
    assert escaped(r"50% of A_B & {x} ~ ^ \ # $ <") == (
        r"50\% of A\_B \& \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \# \$ \textless{}"
    )
    text = latex(results(outcomes).tables[0])
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 5
    assert {row.count(" & ") for row in rows} == {7}
    assert r"Dice \%" in rows[0]
    assert r"$\pm$" in rows[1]
    assert text.count(r"\begin{") == text.count(r"\end{") == 3


def test_costs_as_csv(outcomes: list[Outcome]) -> None:
    rows = list(csv.DictReader(io.StringIO(comma_separated(results(outcomes).costs))))
    assert [row["method"] for row in rows] == ["supervised (control)", "micd", "cps", "supervised, all labels"]
    micd = rows[1]
    assert (micd["labels"], micd["steps"], micd["seconds per step"], micd["patches/s"]) == ("4", "10", "0.5000", "8.00")
    assert micd["peak MiB"] == "3"
    assert (micd["M parameters"], micd["GFLOP per step"]) == ("9.45", "2403.0")


def la(label: str, role: Role, mean: float, seed: int, method: str) -> Outcome:
    return outcome(label, role, np.full((2, CASES), mean), seed, method=method, data="LA")


def test_the_papers_figures_stand_beside_ours_with_their_rule() -> None:
    found = [la("supervised", "control", 0.70, s, "supervised") for s in range(3)]
    found += [la("ducisc", "method", 0.88 + 0.01 * s, s, "ducisc") for s in range(3)]
    found += [la("ducisc-mine", "method", 0.91 + 0.01 * s, s, "ducisc") for s in range(3)]
    ten = [Outcome(o.cell, o.record, o.scores, (), (8, 0), 80, "honest") for o in found]
    beside = results(ten, Paper(True))
    table = next(table for table in beside.tables if table.title == "l4: beside the papers")
    column = table.header.index("DuCiSC, Table I (test-selected: best on the test scans (official code))")
    assert table.header[1] == "Dice %"
    cells = {row[0]: row[column] for row in table.rows}
    assert cells["ducisc"] == "91.81 !"  # 89 ± 1 is farther than its spread
    assert cells["ducisc-mine"] == "91.81"  # 92 ± 1 is not
    assert cells["supervised (control)"] == "79.53 !"
    row = next(r for r in beside.rows() if (r["method"], r["class"], r["metric"]) == ("ducisc", MEAN, "dice"))
    assert (row["ducisc_value"], row["ducisc_differs"]) == (pytest.approx(0.9181), 1)
    assert row["ducisc_selection"].startswith("test-selected")
    assert "beside the papers" not in document(results(ten).tables)


def test_one_training_has_no_spread_to_judge_by() -> None:
    one = la("ducisc", "method", 0.5, 0, "ducisc")
    found = results([Outcome(one.cell, one.record, one.scores, (), (8, 0), 80, "honest")], Paper(True))
    (table,) = (table for table in found.tables if table.title.endswith("papers"))
    assert "91.81 ?" in table.rows[0]


def test_a_dataset_that_no_paper_has() -> None:
    cell = outcome("micd", "method", noise(0, 0.5)).cell
    with pytest.raises(InputError, match="--paper-dataset, one of la"):
        check_known([cell], None)
    check_known([cell], "pancreas")
