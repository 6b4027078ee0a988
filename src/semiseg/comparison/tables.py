"""What a comparison says, in tables for people: Markdown, LaTeX and CSV."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from semiseg.comparison.outcomes import as_csv
from semiseg.comparison.published import PublishedFigure
from semiseg.comparison.statistics import MEAN, Group, Line, Side, patients_of
from semiseg.metrics.base import Column, columns, shown_columns
from semiseg.metrics.statistics import FEWEST, Comparison, PairedTest

_COSTS = {
    "steps": ("steps", 1.0, 0),
    "seconds": ("seconds", 1.0, 1),
    "seconds_per_step": ("seconds per step", 1.0, 4),
    "patches_per_second": ("patches/s", 1.0, 2),
    "peak_memory": ("peak MiB", 2.0**-20, 0),
    "parameters": ("M parameters", 1e-6, 2),
    "flops_per_step": ("GFLOP per step", 1e-9, 1),
}
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "−": "$-$",
    "·": r"$\cdot$",
}
LEVEL = 0.05
SCORES_NOTE = (
    "mean ± standard deviation over the trainings (seeds, draws of the labelled cases) of the means over cases; in "
    "brackets the 95 % interval of the mean over patients (Student's t, corrected for skewness), whose cases are "
    "averaged over the trainings and then over the scans of a patient; updates x patches: optimiser updates, and "
    "labelled patches of each"
)
COST_NOTE = (
    "parameters are those that are trained, without teachers; operations are counted, forwards and backwards over a "
    "whole batch, two per multiplication and addition"
)
_TESTS: dict[PairedTest, str] = {
    "wilcoxon": "two-sided Wilcoxon signed-rank test",
    "t": "two-sided paired t-test",
    "t-one-sided": "one-sided paired t-test (against the method being no better than the control)",
}
UNKNOWN_PATIENTS = (
    "the runs do not say whose scans they were scored on (they are of an earlier version): each case counts as a "
    "patient of its own; where patients have several scans, intervals are too narrow and p values too small"
)
UNEQUAL = "unequal training length"
PAPER_NOTE = (
    "printed figures are other people's, on their test scans and by the rule in the heading; ! marks a difference "
    "larger than the spread over our trainings (or theirs, where printed, if that is larger); ? where one training has "
    "no spread"
)


def test_note(test: PairedTest) -> str:
    """What the columns of the tests against the controls say."""
    fewest = FEWEST if test == "wilcoxon" else 2
    return (
        "difference to the control on the same cases, seeds and draws, with its 95 % interval over patients; p of the "
        f"{_TESTS[test]} over patients, by Holm's rule for all tests of a column; * p < {LEVEL}; - below {fewest} "
        "patients"
    )


@dataclass(frozen=True, eq=False)
class Table:
    """Cells as text, and what must be said with them; a `detail` is for files, not for the screen."""

    title: str
    cells: pd.DataFrame
    notes: tuple[str, ...] = ()
    detail: bool = False


def table_of(
    title: str, header: Sequence[str], rows: Iterable[Sequence[str]], notes: tuple[str, ...] = (), detail: bool = False
) -> Table:
    """A table of `rows` under `header`."""
    return Table(title, pd.DataFrame([*rows], columns=header, dtype=object), notes, detail)


def _metrics() -> list[Column]:
    """Metrics of the tables; those in voxels are in the CSV files."""
    return shown_columns("mm")


def score_tables(groups: Sequence[Group], lines: Sequence[Line], test: PairedTest = "wilcoxon") -> list[Table]:
    """Per preset and budget: the scores, the tests against the controls, and the scores by class."""
    tables = []
    known = () if patients_of(groups) or not lines else (UNKNOWN_PATIENTS,)
    for title, members in places(groups):
        own = [line for line in lines if line.group in members]
        here = {(line.group.label, line.group.budget, line.name, line.metric): line for line in own}
        unequal = _unequal(members)
        notes = (*known, *unequal, *(f"failed: {failure}" for group in members for failure in group.failures))
        tables.append(_scores(title, members, here, notes))
        if any(line.against for line in own):
            tables.append(_tests(title, members, here, (test_note(test), *known, *unequal)))
        tables += _by_class(title, members, here)
    return tables


def cost_tables(groups: Sequence[Group]) -> list[Table]:
    """Per preset and budget: label budget, protocol, steps, time, memory and size, medians over the trainings."""
    header = ("method", "trainings", "labels", "protocol", *(heading for heading, _, _ in _COSTS.values()))
    return [
        table_of(
            f"{title}: cost",
            header,
            [
                (
                    *_head(group),
                    group.labels or "-",
                    group.protocol or "-",
                    *(number(group.known(name), factor, digits) for name, (_, factor, digits) in _COSTS.items()),
                )
                for group in members
            ],
            (COST_NOTE,),
        )
        for title, members in places(groups)
    ]


def paper_tables(
    groups: Sequence[Group], lines: Sequence[Line], found: Mapping[Line, Sequence[PublishedFigure]]
) -> list[Table]:
    """Per preset and budget: our means beside the papers' figures, each paper in columns of its own."""
    tables = []
    for title, members in places(groups):
        here = [line for line in lines if line.group in members and found.get(line)]
        sources = sorted({(printed.source, printed.selection) for line in here for printed in found[line]})
        if sources:
            tables.append(_beside(title, members, here, found, sources))
    return tables


def places(groups: Sequence[Group]) -> Iterator[tuple[str, list[Group]]]:
    """Title and groups of each preset and budget; the bounds that belong to it, one for each control, come last."""
    for preset, budget in dict.fromkeys((group.preset, group.budget) for group in groups if group.role != "bound"):
        members = [group for group in groups if (group.preset, group.budget) == (preset, budget)]
        names = {group.bound for group in members}
        bounds = [
            group for group in groups if group.role == "bound" and group.preset == preset and group.budget in names
        ]
        members = [group for group in members if group.role != "bound"]
        controls = {group.label for group in members if group.role == "control"}
        bounds = [group for group in bounds if group.label in controls] or bounds
        yield f"preset {preset}, {budget}" if preset else budget, [*members, *bounds]


def number(value: float, factor: float = 1.0, digits: int = 2, *, signed: bool = False) -> str:
    """Two digits, or `-` where there is no number."""
    if math.isnan(value):
        return "-"
    return f"{value * factor:{'+' if signed else ''}.{digits}f}"


def name_of(group: Group) -> str:
    """The method, and what it is here."""
    words = {"control": " (control)", "bound": ", all labels", "method": ""}
    return group.label + words[group.role]


Here = Mapping[tuple[str, str, str, str], Line]


def _head(group: Group) -> tuple[str, str]:
    done, wanted = len(group.done), len(group.outcomes)
    return name_of(group), str(done) if done == wanted else f"{done} of {wanted}"


def _unequal(members: Sequence[Group]) -> tuple[str, ...]:
    """A stamp where a method or a bound has no control that was trained as long on as many labelled patches."""
    controls = [group for group in members if group.role == "control"]
    lengths = {length for group in controls for length in group.training}
    others = [group for group in members if group.role != "control" and group.done]
    known = controls and all(group.done for group in controls)
    if not known or all(length in lengths for group in others for length in group.training):
        return ()
    told = "; ".join(f"{name_of(group)} {_training(group)}" for group in members if group.done)
    return (f"{UNEQUAL} (updates x labelled patches of each): {told}",)


def _training(group: Group) -> str:
    return ", ".join(f"{updates} x {patches}" for updates, patches in group.training) or "-"


def _patients(line: Line | None) -> str:
    """`20`, or `20 (40 scans)`."""
    if line is None:
        return "-"
    return str(line.patients) if line.patients == line.cases else f"{line.patients} ({line.cases} scans)"


def _of(here: Here, group: Group) -> Line | None:
    return here.get((group.label, group.budget, MEAN, _metrics()[0].name))


def _scores(title: str, members: Sequence[Group], here: Here, notes: tuple[str, ...]) -> Table:
    header = (
        "method",
        "trainings",
        "labels",
        "updates x patches",
        "patients",
        "protocol",
        *(column.heading for column in _metrics()),
    )
    rows = []
    for group in members:
        cells = [_mean(here, group, MEAN, column, bracket=True) for column in _metrics()]
        facts = group.labels or "-", _training(group), _patients(_of(here, group)), group.protocol or "-"
        rows.append((*_head(group), *facts, *cells))
    return table_of(title, header, rows, (SCORES_NOTE, *notes))


def _tests(title: str, members: Sequence[Group], here: Here, notes: tuple[str, ...]) -> Table:
    header = ["method", "control", "patients"]
    for column in _metrics():
        header += [column.heading, "p"]
    plain = next((group.label for group in members if group.role == "control"), "")
    rows = []
    for group in members:
        if group.role != "method" or not group.done:
            continue
        lines = [here[group.label, group.budget, MEAN, column.name] for column in _metrics()]
        rows.append((group.label, group.control("plain") or plain, *_tested(lines, "plain")))
        if any(line.against_kin for line in lines):
            rows.append((group.label, group.control("kin"), *_tested(lines, "kin")))
    return table_of(f"{title}: against the control", header, rows, notes)


def _tested(lines: Sequence[Line], side: Side) -> Iterator[str]:
    """Patients, and differences with their p by metric."""
    found = [(line.against, line.p_holm) if side == "plain" else (line.against_kin, line.p_holm_kin) for line in lines]
    yield str(next((against.patients for against, _ in found if against), "-"))
    for (against, p), column in zip(found, _metrics(), strict=True):
        yield from _test(against, p, column.factor)


def _test(against: Comparison | None, p: float, factor: float) -> tuple[str, str]:
    if against is None:
        return "-", "-"
    found = against.difference
    interval = f"[{number(found.low, factor, signed=True)}, {number(found.high, factor, signed=True)}]"
    mark = " *" if p < LEVEL else ""
    return f"{number(found.mean, factor, signed=True)} {interval}", _probability(p) + mark


def _probability(p: float) -> str:
    if math.isnan(p):
        return "-"
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def _by_class(title: str, members: Sequence[Group], here: Here) -> Iterable[Table]:
    done = [group for group in members if group.done]
    classes = done[0].done[0].classes if done else ()
    if len(classes) < 2:
        return
    for column in _metrics():
        rows = [
            (
                name_of(group),
                _patients(here.get((group.label, group.budget, MEAN, column.name))),
                *(_mean(here, group, name, column) for name in classes),
            )
            for group in members
        ]
        yield table_of(f"{title}: {column.heading} by class", ("method", "patients", *classes), rows, detail=True)


def _mean(here: Here, group: Group, name: str, column: Column, *, bracket: bool = False) -> str:
    line, factor = here.get((group.label, group.budget, name, column.name)), column.factor
    if line is None:
        return "failed" if group.failures else "-"
    spread = "" if math.isnan(line.spread) else f" ± {number(line.spread, factor)}"
    interval = f" [{number(line.low, factor)}, {number(line.high, factor)}]" if bracket else ""
    return f"{number(line.mean, factor)}{spread}{interval}"


def _beside(
    title: str,
    members: Sequence[Group],
    here: Sequence[Line],
    found: Mapping[Line, Sequence[PublishedFigure]],
    sources: Sequence[tuple[str, str]],
) -> Table:
    metrics = [metric for metric in columns() if any(line.metric == metric for line in here)]
    header = ["method", "patients"]
    for metric in metrics:
        header.append(columns()[metric].heading)
        header += [f"{source} ({selection})" for source, selection in sources]
    rows = []
    for group in members:
        lines = {line.metric: line for line in here if line.group == group}
        if lines:
            cells = [cell for metric in metrics for cell in _with_printed(lines.get(metric), metric, found, sources)]
            rows.append((name_of(group), _patients(lines.get(metrics[0])), *cells))
    return table_of(f"{title}: beside the papers", header, rows, (PAPER_NOTE,))


def _with_printed(
    line: Line | None, metric: str, found: Mapping[Line, Sequence[PublishedFigure]], sources: Sequence[tuple[str, str]]
) -> Iterator[str]:
    if line is None:
        yield from ("-",) * (1 + len(sources))
        return
    factor = columns()[metric].factor
    yield number(line.mean, factor) + ("" if math.isnan(line.spread) else f" ± {number(line.spread, factor)}")
    by_source = {(printed.source, printed.selection): printed for printed in found[line]}
    for source in sources:
        printed = by_source.get(source)
        yield "-" if printed is None else _printed(printed, factor)


def _printed(printed: PublishedFigure, factor: float) -> str:
    spread = "" if printed.std is None else f" ± {number(printed.std, factor)}"
    mark = {None: " ?", True: " !", False: ""}[printed.differs]
    return f"{number(printed.value, factor)}{spread}{mark}"


def markdown(table: Table) -> str:
    """The table in Markdown, with its title before it and its notes below."""
    lines = [table.cells.columns, ("---",) * len(table.cells.columns), *table.cells.itertuples(index=False, name=None)]
    body = ["| " + " | ".join(map(_in_markdown, line)) + " |" for line in lines]
    notes = [f"- {_in_markdown(note)}" for note in table.notes]
    return "\n".join([f"### {table.title}", "", *body, *([""] if notes else []), *notes]) + "\n"


def document(tables: Iterable[Table]) -> str:
    """All tables in Markdown; a note that several have is told under the first."""
    told: set[str] = set()
    parts = []
    for table in tables:
        parts.append(markdown(replace(table, notes=tuple(note for note in table.notes if note not in told))))
        told.update(table.notes)
    return "\n".join(parts)


def latex(table: Table) -> str:
    """The table in LaTeX, for the packages booktabs and adjustbox."""
    cells = table.cells.map(escaped).set_axis([*map(escaped, table.cells.columns)], axis="columns")
    text = cells.to_latex(index=False, escape=False, column_format="l" + "r" * (len(cells.columns) - 1))
    notes = [rf"\par\footnotesize {escaped(note)}" for note in table.notes]
    box = [r"\begin{adjustbox}{max width=\textwidth}", text.strip(), r"\end{adjustbox}"]
    return "\n".join([r"\begin{table}", rf"\caption{{{escaped(table.title)}}}", *box, *notes, r"\end{table}"]) + "\n"


def comma_separated(tables: Sequence[Table]) -> str:
    """The same cells as CSV, the tables' titles in the first column; for tables with one header."""
    return as_csv(pd.concat({table.title: table.cells for table in tables}, names=["table"]).reset_index("table"))


def escaped(text: str) -> str:
    """`text` with what LaTeX reads otherwise spelt out."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _in_markdown(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
