"""Tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from semiseg.comparison.gather import as_csv

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


@dataclass(frozen=True)
class Table:
    """Cells as text, and what must be said with them; a `detail` is for files, not for the screen."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    detail: bool = False


def markdown(table: Table) -> str:
    """The table in Markdown, with its title before it and its notes below."""
    lines = [table.header, ("---",) * len(table.header), *table.rows]
    body = ["| " + " | ".join(_in_markdown(cell) for cell in line) + " |" for line in lines]
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
    columns = "l" + "r" * (len(table.header) - 1)
    rows = [" & ".join(map(escaped, row)) + r" \\" for row in table.rows]
    notes = [rf"\par\footnotesize {escaped(note)}" for note in table.notes]
    lines = [
        r"\begin{table}",
        rf"\caption{{{escaped(table.title)}}}",
        r"\begin{adjustbox}{max width=\textwidth}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(escaped, table.header)) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{adjustbox}",
        *notes,
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def comma_separated(tables: Sequence[Table]) -> str:
    """The same cells as CSV, the tables' titles in the first column; for tables with one header."""
    return as_csv(("table", *tables[0].header), [(table.title, *row) for table in tables for row in table.rows])


def escaped(text: str) -> str:
    """`text` with what LaTeX reads otherwise spelt out."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _in_markdown(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
