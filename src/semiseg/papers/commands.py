"""Commands that replay a table."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from semiseg.errors import InputError, did_you_mean
from semiseg.methods.base import entry
from semiseg.papers.tables import Row, Setup, Table, paper_of


def replay(method: str, number: str) -> str:
    """One `semiseg train` command per row of table `number` of the paper of `method`, with comments for a shell.

    DATA, N and the names of the run folders are to be filled in or changed by the user.

    Raises:
        InputError: there is no such method, or its paper has no such table.
    """
    table = _find(method, number)
    lines = [f"# {table.title}: {table.varies}."]
    blocks = _blocks(table.setups)
    for setups in blocks:
        where = ", ".join(map(str, setups))
        lines.append(f"# DATA: the dataset folder; N: its number of labelled scans (paper: {where}).")
        place = f"_{_slug(setups[0].dataset)}" if len(blocks) > 1 else ""
        lines += [_command(row, setups[0], f"{table.paper}_{_slug(table.number)}{place}") for row in table.rows]
    return "\n".join(lines)


def _find(method: str, number: str) -> Table:
    paper = paper_of(entry(method))
    if paper is None:
        raise InputError(f"no tables are known of the paper of {method}: give a method such as ducisc or lefed")
    found = next((table for table in paper.tables if _letters(table.number) == _letters(number)), None)
    if found is None:
        known = [table.number for table in paper.tables]
        raise InputError(f"the paper of {method} has no ablation table {number!r}: {did_you_mean(number, known)}")
    return found


def _letters(number: str) -> str:
    return re.sub(r"[^a-z0-9]", "", number.lower())


def _blocks(setups: Sequence[Setup]) -> list[list[Setup]]:
    """Set-ups that lead to the same commands, together."""
    blocks: list[list[Setup]] = []
    for setup in setups:
        same = next((b for b in blocks if (b[0].settings, b[0].options) == (setup.settings, setup.options)), None)
        if same is None:
            blocks.append([setup])
        else:
            same.append(setup)
    return blocks


def _command(row: Row, setup: Setup, prefix: str) -> str:
    words = ["semiseg", "train", "DATA", "--labelled", "N", "--method", row.method]
    for assignment in row.assignments(setup):
        words += ["--set", assignment]
    return shlex.join([*words, "--output", f"runs/{prefix}_{_slug(row.name)}"])


def _slug(name: str) -> str:
    """`name` in lower case, without what a folder's name should not hold."""
    text = re.sub(r"\|(.*)\|", r"abs-\1", name.lower()).replace("+", "-")
    return re.sub(r"[^a-z0-9_.-]+", "-", text).strip("-.").replace(".-", "-")
