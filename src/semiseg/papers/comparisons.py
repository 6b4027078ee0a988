"""The tables in which the papers compare whole methods."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ConfigDict

from semiseg.errors import InputError
from semiseg.papers.figures import Figure, figures
from semiseg.papers.names import method_of, names_of
from semiseg.papers.setups import Setup

NEAR = 0.25
"""4 of 80 scans are 5 %, and papers say 5 % of 10 among 216 as well: so much may a share differ, relative to it."""


@dataclass(frozen=True)
class Comparison:
    """A table that compares methods.

    Attributes:
        number: as printed, `I`.
        setups, rows: its data and its methods as printed, where the figures do not have them.
        sources: tables of the paper, or `text`, in which its figures stand; default: the table itself.
        paper: name of the paper's files.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    number: str
    setups: tuple[Setup, ...] = ()
    rows: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    paper: str = ""

    @property
    def name(self) -> str:
        """As `--methods table:ducisc/I` names it."""
        return f"{self.paper}/{self.number}"

    @property
    def title(self) -> str:
        """`DuCiSC, Table I`."""
        return f"{names_of(self.paper)[0]}, Table {self.number}"

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All its figures that are known."""
        return tuple(figure for figure in figures(self.paper) if figure.table in (self.sources or (self.number,)))

    @property
    def columns(self) -> Mapping[Setup, tuple[str, ...]]:
        """The printed names of its rows on each data."""
        if self.setups:
            return dict.fromkeys(self.setups, self.rows)
        found: dict[Setup, dict[str, None]] = {}
        for figure in self.figures:
            found.setdefault(Setup(figure.dataset, figure.labelled), {})[figure.method] = None
        return {setup: tuple(names) for setup, names in found.items()}

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of its datasets as printed."""
        return tuple(dict.fromkeys(setup.dataset for setup in self.columns))

    def chosen(self, dataset: str | None = None, shares: Sequence[float] = ()) -> tuple[Setup, ...]:
        """Its data that are of `dataset` and have one of `shares` of the scans labelled.

        Where it prints none of these shares, those of every share; where no dataset is named, those of every dataset.
        """
        here = tuple(setup for setup in self.columns if dataset in (None, setup.dataset))
        near = tuple(setup for setup in here if any(is_near(setup.share, share) for share in shares))
        return near or tuple(setup for setup in here if setup.share < 1)

    def printed(self, setups: Iterable[Setup]) -> tuple[str, ...]:
        """Names of the rows on `setups`, as printed."""
        return tuple(dict.fromkeys(name for setup in setups for name in self.columns[setup]))

    def found(self, method: str, dataset: str, share: float) -> dict[str, Figure]:
        """Its figures of our `method` by metric; empty where it has none on such data."""
        names = names_of(method)
        near = [
            figure
            for figure in self.figures
            if figure.method in names
            and figure.dataset == dataset
            and is_near(Setup(dataset, figure.labelled).share, share)
        ]
        return {figure.metric: figure for figure in reversed(near)}


def is_near(printed: float, share: float) -> bool:
    """Whether a printed share of labelled scans means `share`."""
    return abs(printed - share) <= NEAR * share


def comparisons() -> tuple[Comparison, ...]:
    """The comparison tables of all papers, by the papers' names."""
    from semiseg.papers.tables import papers

    return tuple(table for paper in papers() for table in paper.comparisons)


def comparison(name: str) -> Comparison:
    """The comparison table `ducisc/I`.

    Raises:
        InputError: there is no such paper or table; the known ones are named.
    """
    paper, _, number = name.partition("/")
    every = comparisons()
    numbers = [table.number for table in every if table.paper == paper]
    if not numbers:
        known = ", ".join(dict.fromkeys(table.paper for table in every))
        raise InputError(f"table:{name}: expected table:PAPER/NUMBER with a paper of {known}, came {paper!r}")
    wanted = re.sub(r"^table\s*", "", number.strip().lower())
    found = next((table for table in every if table.paper == paper and table.number.lower() == wanted), None)
    if found is None:
        raise InputError(f"table:{name}: the comparison tables of {paper} are {', '.join(numbers)}, came {number!r}")
    return found


def registered(printed: Iterable[str]) -> tuple[list[str], list[str]]:
    """Our methods that tables call so, and the names of those that are not here."""
    pairs = [(name, method_of(name)) for name in printed]
    return [*dict.fromkeys(method for _, method in pairs if method)], [name for name, method in pairs if not method]


def tables_of(methods: Iterable[str]) -> list[Comparison]:
    """The comparison tables in which one of our `methods` stands."""
    names = {name for method in methods for name in names_of(method)}
    return [table for table in comparisons() if names & {*table.printed(table.columns)}]
