"""Writes docs/methods/: one page per method, from its docstring, its options, the papers' tables and our results.

    python docs/generate.py

Our results are read from docs/results/*.csv, tidy tables with the columns `RESULT`: one row per experiment (a name),
dataset, split, method, seed, foreground class and metric. Metrics have the names and units of `scores.csv`, so Dice is
a share; the value is the mean over the scored cases.
"""

from __future__ import annotations

import csv
import inspect
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from semiseg.api.lists import MethodInfo, describe
from semiseg.methods.base import Entry, Method, registry
from semiseg.methods.ideas import grouped
from semiseg.metrics.base import Metric, metrics, shown_columns
from semiseg.papers import Figure, Paper, Row, Table, names_of, paper_of, papers, tables_of
from semiseg.papers.tables import as_text
from semiseg.speed.passes import passes_of

HERE = Path(__file__).parent
RESULT = ("experiment", "dataset", "split", "method", "seed", "class", "metric", "value")
METRICS = ("Dice", "Jaccard", "95HD", "ASD")
CONTROL = "supervised"

NOTICE = "<!-- Written by docs/generate.py; change the docstrings, options or papers' files it reads, then run it. -->"
METRICS_START = "<!-- Table of metrics, written by docs/generate.py from semiseg/metrics. -->"
METRICS_END = "<!-- End of the table. -->"
INDEX = """# Methods

Every method works in 2D and 3D, with any number of classes and channels, and on every network that has what it needs;
where one has not, it says so before any work. `semiseg methods` lists them; `semiseg methods NAME` shows what the pages
here show: idea, options with bounds and defaults, and the rows of the paper's ablations as settings. An option is set
with `--set options.NAME=VALUE`; `semiseg methods NAME --table VI` prints the commands that replay a table.

Where a paper and its official code (or what works best) differ, the method has named variants.
[Ablations](../ablations.md) shows that every switch of the tables does something, [Results](../results.md) what the
methods reach in our hands.

A step is counted, not timed, on a 2D U-Net with 16 to 256 filters, patches of 64 x 64, two labelled and two unlabelled
ones, default options, late in the training and averaged over stages. *Passes* are forward passes of one patch, those
with gradient + those without (teachers, pseudo-labels); further decoders and discriminators count by their share of the
operations. *Operations* are those of the whole step, gradients included, in units of the control (`supervised`). Passes
over whole scans between the steps are not in it. *Tables* are the papers' comparison tables; `semiseg compare --preset
la --labelled 8 --methods table:ducisc/I` trains the rows of one, see [Comparing](../comparing.md#tables-of-papers).
"""


@dataclass(frozen=True)
class Family:
    """A method with its variants: all entries of one class, the plain one first."""

    entries: tuple[Entry, ...]

    @property
    def main(self) -> Entry:
        """The entry without changed options."""
        return self.entries[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all entries."""
        return tuple(entry.name for entry in self.entries)

    @property
    def paper(self) -> Paper | None:
        """The paper whose tables are known, if any."""
        return paper_of(self.main)


@dataclass(frozen=True)
class Result:
    """One of our numbers: a row of docs/results/*.csv."""

    experiment: str
    dataset: str
    split: str
    method: str
    seed: str
    metric: str
    value: float

    @property
    def where(self) -> tuple[str, str, str]:
        """What it may be compared within."""
        return self.experiment, self.dataset, self.split


def main() -> None:
    """Write the pages and the table of metrics, and remove the pages of methods that are no more."""
    folder = HERE / "methods"
    folder.mkdir(exist_ok=True)
    written = pages(read_results(HERE / "results"))
    for old in {path.name for path in folder.glob("*.md")} - written.keys():
        (folder / old).unlink()
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")
    page = HERE / "metrics.md"
    page.write_text(with_metrics(page.read_text(encoding="utf-8")), encoding="utf-8")


def pages(results: Sequence[Result]) -> dict[str, str]:
    """Text of every page by file name."""
    families = group(registry().values())
    found = {"index.md": index(families)}
    return found | {f"{family.main.name}.md": page(family, results) for family in families}


def with_metrics(text: str) -> str:
    """The page about metrics with the definitions of all that there are between its two marks."""
    before, _, rest = text.partition(f"{METRICS_START}\n")
    _, _, after = rest.partition(METRICS_END)
    rows = [
        (f"`{metric.name}`", metric.label, metric.definition, ", ".join(metric.units), _direction(metric))
        for metric in metrics()
    ]
    lines = table(("in files", "in tables", "definition", "units", "better"), rows)
    return "\n".join([f"{before}{METRICS_START}", "", *lines, "", f"{METRICS_END}{after}"])


def _direction(metric: Metric) -> str:
    return "higher" if metric.higher_is_better else "lower"


def group(entries: Iterable[Entry]) -> list[Family]:
    """Entries of the same class together, in the order of their main names."""
    classes: dict[type[Method], list[Entry]] = {}
    for entry in entries:
        classes.setdefault(entry.cls, []).append(entry)
    families = [Family(tuple(sorted(found, key=lambda entry: len(entry.options)))) for found in classes.values()]
    return sorted(families, key=lambda family: family.main.name)


def index(families: Sequence[Family]) -> str:
    """All methods by idea."""
    named = {family.main.name: family for family in families}
    lines = [NOTICE, "", INDEX]
    for idea, names in grouped(named).items():
        rows = [index_row(named[name]) for name in names]
        header = ("method", "idea", "passes", "operations", "tables")
        lines += [f"## {idea.name.capitalize()}", "", idea.sentence, "", *table(header, rows), ""]
    return "\n".join(lines)


def index_row(family: Family) -> tuple[str, ...]:
    """A method in the list with its variants: idea and paper, cost, tables."""
    name, others = family.main.name, "".join(f"<br>`{other}`" for other in family.names[1:])
    idea = (inspect.getdoc(family.main.cls) or "").split("\n\n")[0].replace("\n", " ")
    cost = passes_of(name)
    passes = f"{cost.trained:.1f} + {cost.free:.1f}"
    operations = f"{cost.total / passes_of(CONTROL).total:.1f}"
    return f"[`{name}`]({name}.md){others}", f"{idea} {link(family.main)}", passes, operations, numbers(family)


def numbers(family: Family) -> str:
    """`CML 1, 2; DuCiSC I`: the comparison tables in which a method or a variant stands."""
    found: dict[str, list[str]] = {}
    for compared in tables_of(family.names):
        found.setdefault(compared.title.partition(",")[0], []).append(compared.number)
    return "; ".join(f"{paper} {', '.join(which)}" for paper, which in found.items())


def page(family: Family, results: Sequence[Result]) -> str:
    """Everything about one method and its variants."""
    info = describe(family.main)
    parts = [
        [NOTICE, "", f"# {info.name}", "", citation(family), "", info.idea],
        ["```sh", f"semiseg train DATA --method {info.name} --labelled 8 --test 20 --output runs/{info.name}", "```"],
        variants(family),
        ["## Notes", "", family.paper.notes.strip()] if family.paper else [],
        options(info),
        ablations(family),
        printed(family),
        ours(family, results),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def citation(family: Family) -> str:
    """The paper in a line, with a link."""
    paper = family.paper
    what = f"*{paper.title}.* {paper.authors}. {paper.venue}" if paper else f"*{family.main.title}*"
    return f"{what}, {link(family.main)}."


def link(entry: Entry) -> str:
    """The paper as a Markdown link where it has an address."""
    return f"[{entry.paper}]({entry.link})" if entry.link else entry.paper


def variants(family: Family) -> list[str]:
    """What the variants change."""
    names = list(dict.fromkeys(name for entry in family.entries for name in entry.options))
    if not names:
        return []
    defaults = [describe(entry).options for entry in family.entries]
    rows = [(f"`{name}`", *(code(found[name][1]) for found in defaults)) for name in names]
    return ["## Variants", "", *table(("option", *(f"`{name}`" for name in family.names)), rows)]


def options(info: MethodInfo) -> list[str]:
    """The options with type, bounds and default."""
    rows = [(f"`{name}`", code(default), kind, text) for name, (kind, default, text) in info.options.items()]
    return ["## Options", "", *table(("option", "default", "values", "meaning"), rows)]


def ablations(family: Family) -> list[str]:
    """The rows of the paper's tables as settings, with the printed Dice."""
    if family.paper is None:
        return []
    name = family.paper.method
    lines = ["## The paper's ablations as settings", ""]
    lines.append(
        f"What a row changes in `{name}` as the [preset](../presets.md) of the data sets it up, and the Dice (%) that "
        "the paper prints for it. The command below a table prints those that train its rows, one per data and row."
    )
    for found in family.paper.tables:
        lines += ["", f"### {found.title}: {found.varies}", "", *ablation(found, name)]
        lines += ["", "```sh", f"semiseg methods {name} --table {shlex.quote(found.number)}", "```"]
    return lines


def ablation(found: Table, method: str) -> list[str]:
    """One of these tables, and the note to it."""
    shown = [setup for setup in found.setups if any(found.figure(row, setup) for row in found.rows)]
    rows = [
        (row.name, change(row, method), *(found.figure(row, setup) or "-" for setup in shown)) for row in found.rows
    ]
    lines = table(("row", "settings", *map(str, shown)), rows)
    where = [] if shown else [f"On {', '.join(map(str, found.setups))}."]
    text = " ".join([*where, found.note]).strip()
    return [*lines, "", text] if text else lines


def change(row: Row, method: str) -> str:
    """What a row sets, in short."""
    other = [] if row.method == method else [f"method `{row.method}`"]
    changes = {**row.settings, **row.options}.items()
    return ", ".join([*other, *(f"`{name}={as_text(value)}`" for name, value in changes)]) or "as it is"


def printed(family: Family) -> list[str]:
    """Figures that papers print for the method: its own, or the four papers of this package for the others."""
    own = family.paper
    if own:
        wanted = {(own.name, result.table, method) for result in own.results for method in result.methods}
        lines = ["## The paper's numbers", "", "On the test scans: Dice and Jaccard in %, distances in voxels."]
    else:
        names = {name for method in family.names for name in names_of(method)}
        every = (figure for paper in papers() for figure in paper.figures)
        wanted = {(figure.paper, figure.table, figure.method) for figure in every if figure.method in names}
        lines = [
            "## Numbers in papers",
            "",
            "As the papers of other methods print them: Dice and Jaccard in %, distances in voxels.",
        ]
    rows = figure_rows(wanted)
    columns = ["paper", "table", "data", "labelled", "row", *METRICS, "note"]
    dropped = {*([0] if own else ()), *(k for k in range(len(columns)) if all(row[k] in ("", "-") for row in rows))}
    kept = [k for k in range(len(columns)) if k not in dropped]
    return [*lines, "", *table([columns[k] for k in kept], [[row[k] for k in kept] for row in rows])] if rows else []


def figure_rows(wanted: set[tuple[str, str, str]]) -> list[tuple[str, ...]]:
    """A row for each wanted (paper, table, method) on each data; what is printed twice is shown once."""
    found: dict[tuple[str, str, str, str], list[Figure]] = {}
    for paper in papers():
        for figure in paper.figures:
            if (paper.name, figure.table, figure.method) in wanted and figure.metric in METRICS:
                found.setdefault((paper.name, figure.dataset, figure.labelled, figure.method), []).append(figure)
    first: dict[tuple[str, ...], int] = {}
    for name, dataset, *_ in found:
        first.setdefault((name, dataset), len(first))
    rows = []
    for key in sorted(found, key=lambda key: (first[key[:2]], int(key[2].rstrip("%")))):
        name, dataset, labelled, method = key
        values = {figure.metric: str(figure) for figure in reversed(found[key])}
        notes = "; ".join(dict.fromkeys(figure.note for figure in found[key] if figure.note))
        number, share = found[key][0].table, labelled.replace("%", " %")
        rows.append(
            (f"[{name}]({name}.md)", number, dataset, share, method, *(values.get(m, "-") for m in METRICS), notes)
        )
    return rows


def read_results(folder: Path) -> list[Result]:
    """Our numbers, of all files in `folder`; values that are not a number are left out."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != RESULT:
                raise SystemExit(f"{path}: expected the columns {','.join(RESULT)}, came {reader.fieldnames}")
            for row in reader:
                del row["class"]
                found.append(Result(**(row | {"value": float(row["value"])})))
    return [result for result in found if not math.isnan(result.value)]


def ours(family: Family, results: Sequence[Result]) -> list[str]:
    """Our numbers of the method beside those of the control."""
    lines = ["## Our numbers", ""]
    if not results:
        return [
            *lines,
            "None is recorded in `docs/results/` so far; what was run by hand is in [Results](../results.md).",
        ]
    lines.append(
        "Mean of the classes, then mean ± standard deviation over the seeds; `-` is not defined or not scored."
    )
    not_run = []
    for where in dict.fromkeys(result.where for result in results):
        here = [result for result in results if result.where == where]
        experiment, dataset, split = where
        title = f"{experiment} ({dataset}, {split})"
        methods = dict.fromkeys(result.method for result in here)
        if not any(name in methods for name in family.names):
            not_run.append(title)
            continue
        shown = [name for name in dict.fromkeys((CONTROL, *family.names)) if name in methods]
        lines += ["", f"### {title}", "", *results_table(here, shown)]
        missing = [f"`{name}`" for name in family.names if name not in methods]
        lines += ["", f"Not run here: {', '.join(missing)}."] if missing else []
    return [*lines, "", f"Not run: {'; '.join(not_run)}."] if not_run else lines


def results_table(here: Sequence[Result], methods: Sequence[str]) -> list[str]:
    """Rows by method, columns by metric."""
    columns = [column for column in shown_columns() if any(result.metric == column.name for result in here)]
    rows = []
    for name in methods:
        own = [result for result in here if result.method == name]
        cells = (over_seeds([r for r in own if r.metric == each.name], each.factor) for each in columns)
        rows.append((f"`{name}`", str(len({result.seed for result in own})), *cells))
    return table(("method", "seeds", *(column.heading for column in columns)), rows)


def over_seeds(results: Sequence[Result], factor: float) -> str:
    """Mean ± sample standard deviation over the seeds of the mean over the classes."""
    by_seed: dict[str, list[float]] = {}
    for result in results:
        by_seed.setdefault(result.seed, []).append(factor * result.value)
    means = [mean(values) for values in by_seed.values()]
    if not means:
        return "-"
    return f"{mean(means):.2f}" + (f" ± {stdev(means):.2f}" if len(means) > 1 else "")


def code(value: Any) -> str:
    """A default as people would type it."""
    if isinstance(value, float):
        value = float(f"{value:.4g}")
    if isinstance(value, Mapping):
        raise TypeError("no option is a mapping")
    return f"`{as_text(value)}`"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |" for line in lines]


if __name__ == "__main__":
    main()
