"""What a comparison says, in tables for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from semiseg.comparison.beside import PRINTED, Printed
from semiseg.comparison.lines import MEAN, Group, Line
from semiseg.comparison.render import Table
from semiseg.evaluation.tables import COLUMNS

SHOWN = COLUMNS[:4]
"""Metrics of the tables; those in voxels are in the CSV files."""
_HEADINGS = {metric: (heading, factor) for metric, heading, factor in COLUMNS}
_COSTS = {
    "steps": ("steps", 1.0, 0),
    "seconds": ("seconds", 1.0, 1),
    "seconds_per_step": ("seconds per step", 1.0, 4),
    "patches_per_second": ("patches/s", 1.0, 2),
    "peak_memory": ("peak MiB", 2.0**-20, 0),
    "parameters": ("M parameters", 1e-6, 2),
    "flops_per_step": ("GFLOP per step", 1e-9, 1),
}
LEVEL = 0.05
SCORES_NOTE = (
    "mean ± standard deviation over the trainings (seeds, draws of the labelled cases) of the means over cases; in "
    "brackets the 95 % bootstrap interval of the mean over cases, which are averaged over the trainings first"
)
COST_NOTE = (
    "parameters are those that are trained, without teachers; operations are counted, forwards and backwards over a "
    "whole batch, two per multiplication and addition"
)
TEST_NOTE = (
    "difference to the control on the same cases, seeds and draws, with its 95 % bootstrap interval; p of the "
    f"two-sided Wilcoxon signed-rank test over cases, by Holm's rule for the methods of a table; * p < {LEVEL}; "
    "- below 6 cases"
)
PAPER_NOTE = (
    "printed figures are other people's, on their test scans and by the rule in the heading; ! marks a difference "
    "larger than the spread over our trainings (or theirs, where printed, if that is larger); ? where one training has "
    "no spread"
)


def score_tables(groups: Sequence[Group], lines: Sequence[Line]) -> list[Table]:
    """Per preset and budget: the scores, the tests against the control, and the scores by class."""
    tables = []
    for title, members in places(groups):
        own = [line for line in lines if line.group in members]
        here = {(line.group.label, line.group.budget, line.name, line.metric): line for line in own}
        notes = tuple(f"failed: {failure}" for group in members for failure in group.failures)
        tables.append(_scores(title, members, here, notes))
        tested = [group for group in members if group.role == "method" and group.done]
        if any(line.against for line in own):
            tables.append(_tests(title, tested, here))
        tables += _by_class(title, members, here)
    return tables


def cost_tables(groups: Sequence[Group]) -> list[Table]:
    """Per preset and budget: label budget, protocol, steps, time, memory and size, medians over the trainings."""
    header = ("method", "trainings", "labels", "protocol", *(heading for heading, _, _ in _COSTS.values()))
    return [
        Table(
            f"{title}: cost",
            header,
            tuple(
                (
                    *_head(group),
                    group.labels or "-",
                    group.protocol or "-",
                    *(number(group.known(name), factor, digits) for name, (_, factor, digits) in _COSTS.items()),
                )
                for group in members
            ),
            (COST_NOTE,),
        )
        for title, members in places(groups)
    ]


def paper_tables(
    groups: Sequence[Group], lines: Sequence[Line], found: Mapping[Line, Sequence[Printed]]
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
    """Title and groups of each preset and budget; the bound that belongs to it comes last."""
    for preset, budget in dict.fromkeys((group.preset, group.budget) for group in groups if group.role != "bound"):
        members = [group for group in groups if (group.preset, group.budget) == (preset, budget)]
        names = {group.bound for group in members}
        bounds = [
            group for group in groups if group.role == "bound" and group.preset == preset and group.budget in names
        ]
        members = [group for group in members if group.role != "bound"]
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


def _scores(title: str, members: Sequence[Group], here: Here, notes: tuple[str, ...]) -> Table:
    header = ("method", "trainings", "labels", "protocol", *(heading for _, heading, _ in SHOWN))
    rows = []
    for group in members:
        cells = [_mean(here, group, MEAN, metric, factor, bracket=True) for metric, _, factor in SHOWN]
        rows.append((*_head(group), group.labels or "-", group.protocol or "-", *cells))
    return Table(title, header, tuple(rows), (SCORES_NOTE, *notes))


def _tests(title: str, members: Sequence[Group], here: Here) -> Table:
    header = ["method"]
    for _, heading, _ in SHOWN:
        header += [heading, "p"]
    rows = []
    for group in members:
        cells: list[str] = []
        for metric, _, factor in SHOWN:
            cells += _test(here[group.label, group.budget, MEAN, metric], factor)
        rows.append((group.label, *cells))
    return Table(f"{title}: against the control", tuple(header), tuple(rows), (TEST_NOTE,))


def _test(line: Line, factor: float) -> tuple[str, str]:
    if line.against is None:
        return "-", "-"
    found = line.against.difference
    interval = f"[{number(found.low, factor, signed=True)}, {number(found.high, factor, signed=True)}]"
    mark = " *" if line.p_holm < LEVEL else ""
    return f"{number(found.mean, factor, signed=True)} {interval}", _probability(line.p_holm) + mark


def _probability(p: float) -> str:
    if math.isnan(p):
        return "-"
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def _by_class(title: str, members: Sequence[Group], here: Here) -> Iterable[Table]:
    done = [group for group in members if group.done]
    classes = done[0].done[0].classes if done else ()
    if len(classes) < 2:
        return
    for metric, heading, factor in SHOWN:
        rows = tuple(
            (name_of(group), *(_mean(here, group, name, metric, factor) for name in classes)) for group in members
        )
        yield Table(f"{title}: {heading} by class", ("method", *classes), rows, detail=True)


def _mean(here: Here, group: Group, name: str, metric: str, factor: float, *, bracket: bool = False) -> str:
    line = here.get((group.label, group.budget, name, metric))
    if line is None:
        return "failed" if group.failures else "-"
    spread = "" if math.isnan(line.spread) else f" ± {number(line.spread, factor)}"
    interval = f" [{number(line.low, factor)}, {number(line.high, factor)}]" if bracket else ""
    return f"{number(line.mean, factor)}{spread}{interval}"


def _beside(
    title: str,
    members: Sequence[Group],
    here: Sequence[Line],
    found: Mapping[Line, Sequence[Printed]],
    sources: Sequence[tuple[str, str]],
) -> Table:
    metrics = [metric for metric in PRINTED if any(line.metric == metric for line in here)]
    header = ["method"]
    for metric in metrics:
        header.append(_HEADINGS[metric][0])
        header += [f"{source} ({selection})" for source, selection in sources]
    rows = []
    for group in members:
        lines = {line.metric: line for line in here if line.group == group}
        if lines:
            cells = [cell for metric in metrics for cell in _with_printed(lines.get(metric), metric, found, sources)]
            rows.append((name_of(group), *cells))
    return Table(f"{title}: beside the papers", tuple(header), tuple(rows), (PAPER_NOTE,))


def _with_printed(
    line: Line | None, metric: str, found: Mapping[Line, Sequence[Printed]], sources: Sequence[tuple[str, str]]
) -> Iterator[str]:
    if line is None:
        yield from ("-",) * (1 + len(sources))
        return
    factor = _HEADINGS[metric][1]
    yield number(line.mean, factor) + ("" if math.isnan(line.spread) else f" ± {number(line.spread, factor)}")
    by_source = {(printed.source, printed.selection): printed for printed in found[line]}
    for source in sources:
        printed = by_source.get(source)
        yield "-" if printed is None else _printed(printed, factor)


def _printed(printed: Printed, factor: float) -> str:
    spread = "" if printed.std is None else f" ± {number(printed.std, factor)}"
    mark = {None: " ?", True: " !", False: ""}[printed.differs]
    return f"{number(printed.value, factor)}{spread}{mark}"
