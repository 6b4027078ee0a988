"""Tables of a comparison, from scores made up by hand."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
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
from semiseg.errors import InputError
from semiseg.evaluation.scores import METRICS
from semiseg.metrics.statistics import PairedTest, mean_interval
from semiseg.settings.load import load_config

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
    patients = patients_of_scans(1)
    return Outcome(cell, record, scores, (), (80, 0) if role == "bound" else (4, 0), 80, "honest", patients, 10, 2)


def patients_of_scans(each: int) -> dict[str, str]:
    """Patient by case, `each` cases in a row of the same one."""
    return {f"case{i}": f"case{i - i % each}" for i in range(CASES)}


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
    assert "| micd | 2 of 3 | 4 | 10 x 2 | 8 | honest |" in text
    assert "failed: micd_l4_s1: x" in text


def test_undefined_scores_are_left_out_and_shown_as_none() -> None:
    dice = noise(1, 0.5)
    dice[0] = math.nan
    found = results([outcome("supervised", "control", dice)])
    assert line_of(found.lines, "supervised", "control").mean == pytest.approx(dice[1].mean())
    by_class = next(table for table in found.tables if table.title == "l4: Dice % by class")
    assert by_class.rows == (("supervised (control)", "8", "-", f"{100 * dice[1].mean():.2f}"),)


def test_markdown(outcomes: list[Outcome]) -> None:
    text = document(results(outcomes).tables)
    facts = "method | trainings | labels | updates x patches | patients | protocol"
    assert f"| {facts} | Dice % | Jaccard % | 95HD mm | ASD mm |" in text
    line = line_of(results(outcomes).lines, "micd", "method")
    cell = f"{100 * line.mean:.2f} ± {100 * line.spread:.2f} [{100 * line.low:.2f}, {100 * line.high:.2f}]"
    assert f"| micd | 3 | 4 | 10 x 2 | 8 | honest | {cell} |" in text
    assert "| supervised, all labels | 3 | 80 | 10 x 2 | 8 | honest |" in text
    assert f"{line.p_holm:.4f} *" in text
    assert text.count("95 % interval of the mean over patients") == 1  # each note once
    assert r"a \| b" in markdown(Table("t", ("a | b",), ()))


def test_latex(outcomes: list[Outcome]) -> None:
    assert escaped(r"50% of A_B & {x} ~ ^ \ # $ <") == (
        r"50\% of A\_B \& \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \# \$ \textless{}"
    )
    text = latex(results(outcomes).tables[0])
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 5
    assert {row.count(" & ") for row in rows} == {9}
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
    assert table.header[1:3] == ("patients", "Dice %")
    cells = {row[0]: row[column] for row in table.rows}
    assert cells["ducisc"] == "91.81 !"  # 89 ± 1 is farther than its spread
    assert cells["ducisc-mine"] == "91.81"  # 92 ± 1 is not
    assert cells["supervised (control)"] == "79.53 !"
    row = next(r for r in beside.rows() if (r["method"], r["class"], r["metric"]) == ("ducisc", MEAN, "dice"))
    assert (row["ducisc_value"], row["ducisc_differs"]) == (pytest.approx(0.9181), 1)
    assert row["ducisc_selection"].startswith("test-selected")
    assert "beside the papers" not in document(results(ten).tables)
    longer = [replace(o, cell=replace(o.cell, plain=False)) for o in ten if o.cell.role == "control"]
    assert "beside the papers" not in document(results(longer, Paper(True)).tables)  # no paper trained it so


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


def with_patients(outcomes: Sequence[Outcome], each: int) -> list[Outcome]:
    return [replace(one, patients=patients_of_scans(each) if each else {}) for one in outcomes]


def test_scans_of_a_patient_count_once_in_intervals_and_tests(outcomes: list[Outcome]) -> None:
    """Eight scans of four patients: the interval and the t-test are those of four numbers."""
    found = results_of(with_patients(outcomes, 2), Path("toy"), True, Paper(), "t")
    line = line_of(found.lines, "micd", "method")
    ours, theirs = (
        np.stack([noise(first + s, mean) for s in range(3)]).mean(axis=(0, 1)).reshape(4, 2).mean(axis=1)
        for first, mean in ((10, 0.8), (0, 0.6))
    )
    interval = mean_interval(ours)
    assert (line.low, line.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (line.cases, line.patients) == (8, 4)
    assert line.against is not None
    assert line.against.patients == 4
    assert line.against.p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    by_case = line_of(lines_of(groups_of(with_patients(outcomes, 1)), "t"), "micd", "method")
    assert by_case.against is not None
    assert by_case.against.patients == 8


def test_every_table_and_file_has_the_number_of_patients(outcomes: list[Outcome], tmp_path: Path) -> None:
    found = results_of(with_patients(outcomes, 2), tmp_path, True, Paper())
    found.write()
    for table in found.tables:
        cells = {row[table.header.index("patients")] for row in table.rows}
        assert cells == ({"4"} if table.title.endswith("control") else {"4 (8 scans)"}), table.title
    for name, words in (("table.md", "| patients |"), ("table.tex", "& patients &")):
        assert (tmp_path / name).read_text().count(words) == len(found.tables)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    listed = json.loads((tmp_path / "table.json").read_text())
    assert {row["patients"] for row in rows} == {"4"}
    assert {row["patients"] for row in listed["rows"]} == {4}
    assert any("over patients" in note for note in listed["notes"])
    assert {row["pairs"] for row in listed["rows"] if row["role"] == "method"} == {4}


def test_runs_that_do_not_name_patients_count_each_case_and_say_so(outcomes: list[Outcome]) -> None:
    found = results(with_patients(outcomes, 0))
    assert line_of(found.lines, "micd", "method").patients == 8
    assert document(found.tables).count("each case counts as a patient of its own") == 1
    assert "of its own" not in document(results(outcomes).tables)
    mixed = [*with_patients(outcomes[:1], 2), *with_patients(outcomes[1:], 0)]
    assert line_of(results(mixed).lines, "micd", "method").patients == 4  # all were scored on the same cases


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("wilcoxon", "two-sided Wilcoxon signed-rank test over patients"),
        ("t", "two-sided paired t-test over patients"),
        ("t-one-sided", "one-sided paired t-test (against the method being no better than the control) over patients"),
    ],
)
def test_the_test_is_named_where_its_p_stands(outcomes: list[Outcome], test: PairedTest, words: str) -> None:
    found = results_of(outcomes, Path("toy"), True, Paper(), test)
    (table,) = (table for table in found.tables if table.title.endswith("against the control"))
    assert any(words in note for note in table.notes)
    assert {row["test"] for row in found.rows()} == {test}


def test_one_sided_means_more_overlap_and_less_distance(outcomes: list[Outcome]) -> None:
    """Every made-up metric of micd is above the control's: a better Dice and a worse distance."""
    lines = lines_of(groups_of(outcomes), "t-one-sided")
    for metric in ("dice", "jaccard", "hd95_mm", "asd_mm", "hd95_voxel", "asd_voxel"):
        against = line_of(lines, "micd", "method", metric).against
        assert against is not None
        assert (against.p < 0.01) == (metric in ("dice", "jaccard"))
        assert (against.p > 0.99) == (metric not in ("dice", "jaccard"))


def test_a_method_is_tested_against_the_control_of_its_kind_too(outcomes: list[Outcome]) -> None:
    pair = [outcome("supervised_pair", "control", noise(40 + s, 0.7), s) for s in range(3)]
    named = [
        replace(o, cell=replace(o.cell, control="supervised", kin="supervised_pair" if o.cell.label == "micd" else ""))
        if o.cell.role == "method"
        else o
        for o in outcomes
    ]
    found = results([*named, *pair])
    micd, cps = (line_of(found.lines, name, "method") for name in ("micd", "cps"))
    assert micd.against_kin is not None
    ours, theirs = (np.stack([noise(first + s, m) for s in range(3)]) for first, m in ((10, 0.8), (40, 0.7)))
    ours, theirs = ours.mean(axis=(0, 1)), theirs.mean(axis=(0, 1))
    assert micd.against_kin.difference.mean == pytest.approx((ours - theirs).mean())
    assert micd.against_kin.p == pytest.approx(stats.wilcoxon(ours, theirs).pvalue)
    assert cps.against_kin is None
    assert micd.against is not None
    assert micd.p_holm == pytest.approx(3 * micd.against.p)  # three tests in the column
    (table,) = (table for table in found.tables if table.title.endswith("against the control"))
    assert [row[:2] for row in table.rows] == [
        ("micd", "supervised"),
        ("micd", "supervised_pair"),
        ("cps", "supervised"),
    ]
    row = next(r for r in found.rows() if (r["method"], r["class"], r["metric"]) == ("micd", MEAN, "dice"))
    assert (row["kind_control"], row["kind_pairs"]) == ("supervised_pair", 8)
    assert row["kind_p"] == pytest.approx(micd.against_kin.p)


def test_unequal_training_is_stamped_on_the_scores_and_the_tests(outcomes: list[Outcome]) -> None:
    short = [replace(o, updates=3, labelled_patches=4) if o.cell.role == "control" else o for o in outcomes]
    found = results(short)
    for table in found.tables[:2]:
        (stamp,) = (note for note in table.notes if note.startswith("unequal training length"))
        assert "supervised (control) 3 x 4; micd 10 x 2; cps 10 x 2; supervised, all labels 10 x 2" in stamp
    assert "unequal" not in document(results(outcomes).tables)
    rows = {(row["method"], row["role"]): (row["updates"], row["labelled_patches"]) for row in found.rows()}
    assert rows["supervised", "control"] == ("3", "4")
    assert rows["micd", "method"] == ("10", "2")


def test_a_table_has_the_bound_of_its_own_controls() -> None:
    """Where lengths differ by budget there are several bounds; a table shows that of its own length."""
    found = [outcome(name, role, noise(i, 0.5), method="supervised") for i, (name, role) in enumerate(BOUNDS)]
    found[1] = replace(found[1], updates=20)
    (table, *_) = results(found).tables
    assert [row[0] for row in table.rows] == ["supervised (control)", "supervised, all labels"]
    assert not any("unequal" in note for note in table.notes)


BOUNDS: tuple[tuple[str, Role], ...] = (("supervised", "control"), ("supervised-20", "bound"), ("supervised", "bound"))
