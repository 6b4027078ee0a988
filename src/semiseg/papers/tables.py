"""The ablation tables of the papers: every row is a registered method with options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, TypeAdapter

from semiseg.methods.base import Entry, entry
from semiseg.papers.comparisons import Comparison
from semiseg.papers.figures import Figure, figures
from semiseg.papers.names import names_of
from semiseg.papers.setups import Setup
from semiseg.settings.load import load_config

Settings = Mapping[str, Any]
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Row:
    """One row of a table: the registered `method` with `options` set, and other `settings` of the run by dotted name.

    Both say only what the row changes in its method as the preset of the data sets it up.
    """

    __pydantic_config__ = _STRICT
    name: str
    method: str = ""
    options: Settings = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)

    @property
    def changes(self) -> dict[str, Any]:
        """Everything that the row sets beside the method, by dotted name."""
        return {**self.settings, **{f"options.{name}": value for name, value in self.options.items()}}

    @property
    def assignments(self) -> tuple[str, ...]:
        """The same as `--set` takes it: `options.mcpc=off`."""
        return tuple(f"{name}={as_text(value)}" for name, value in self.changes.items())


@dataclass(frozen=True)
class Table:
    """A table or a plot of a paper: its `number` (`VI`, `Fig. 5a`), what it varies, on which data, its rows."""

    __pydantic_config__ = _STRICT
    number: str
    varies: str
    setups: tuple[Setup, ...]
    rows: tuple[Row, ...]
    note: str = ""
    paper: str = ""

    @property
    def title(self) -> str:
        """`Table VI`, `Fig. 7a`."""
        return self.number if self.number.startswith("Fig.") else f"Table {self.number}"

    def figure(self, row: Row, setup: Setup, metric: str = "Dice") -> Figure | None:
        """What the paper prints for `row` on `setup`; None where it prints nothing."""
        wanted = self.number, row.name, setup.dataset, setup.labelled, metric
        found = (f for f in figures(self.paper) if (f.table, f.method, f.dataset, f.labelled, f.metric) == wanted)
        return next(found, None)


@dataclass(frozen=True)
class Result:
    """Rows of a comparison that a method's page quotes."""

    __pydantic_config__ = _STRICT
    table: str
    methods: tuple[str, ...]


@dataclass(frozen=True)
class Paper:
    """A paper whose tables are known.

    Attributes:
        name: of its files here.
        title, authors, venue: the citation.
        source: arXiv id or DOI.
        method: the registered method of its rows.
        tables: its ablations.
        comparisons: its tables that compare whole methods.
        results: its main figures.
        selection: by dataset, which weights its figures belong to, as its code or text says.
        notes: what its method's page tells besides, as Markdown.
    """

    __pydantic_config__ = _STRICT
    title: str
    authors: str
    venue: str
    source: str
    method: str
    tables: tuple[Table, ...]
    comparisons: tuple[Comparison, ...]
    results: tuple[Result, ...]
    selection: Settings = field(default_factory=dict)
    notes: str = ""
    name: str = ""

    @property
    def label(self) -> str:
        """What tables call its method: `DuCiSC`."""
        return names_of(self.method)[0]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All its figures."""
        return figures(self.name)

    @property
    def citation(self) -> str:
        """Authors, title and venue in a line."""
        return f"{self.authors}: {self.title}. {self.venue}"


@cache
def papers() -> tuple[Paper, ...]:
    """All papers, by name; every row was checked with the preset of each of its datasets."""
    names = sorted(Path(item.name).stem for item in files("semiseg.papers").iterdir() if item.name.endswith(".yaml"))
    return tuple(_load(name) for name in names)


def paper_of(method: Entry) -> Paper | None:
    """The paper whose tables are about `method` or a variant of it; None for other methods."""
    return next((paper for paper in papers() if entry(paper.method).cls is method.cls), None)


def as_text(value: Any) -> str:
    """A setting as `--set` and YAML take it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(as_text, value))}]"
    return str(value)


def _load(name: str) -> Paper:
    values = yaml.safe_load((files("semiseg.papers") / f"{name}.yaml").read_text(encoding="utf-8"))
    read = TypeAdapter(Paper).validate_python(values)
    tables = tuple(
        replace(table, paper=name, rows=tuple(replace(row, method=row.method or read.method) for row in table.rows))
        for table in read.tables
    )
    compared = tuple(replace(table, paper=name) for table in read.comparisons)
    paper = replace(read, name=name, tables=tables, comparisons=compared)
    for row, setup in _cells(paper):
        given = {"data": Path("DATA"), "preset": setup.preset, "labelled": setup.budget, "method": row.method}
        load_config(None, given, row.assignments)
    return paper


def _cells(paper: Paper) -> Iterator[tuple[Row, Setup]]:
    return ((row, setup) for table in paper.tables for row in table.rows for setup in table.setups)
