"""Commands that replay a table."""

from __future__ import annotations

import re
import shlex

from semiseg.errors import InputError, did_you_mean
from semiseg.methods.base import entry
from semiseg.papers.setups import Setup
from semiseg.papers.tables import Row, Table, paper_of


def replay(method: str, number: str) -> str:
    """One `semiseg train` command per row and data of table `number` of the paper of `method`, with comments.

    A command takes the preset of the data with the table's number of labels, and sets what the row changes. DATA and
    the names of the run folders are to be filled in or changed by the user.

    Raises:
        InputError: there is no such method, or its paper has no such table.
    """
    table = _find(method, number)
    lines = [f"# {table.title}: {table.varies}."]
    if not any("protocol" in row.settings for row in table.rows):
        lines.append("# Add --protocol paper to choose weights as the paper did, be it on the test scans.")
    for setup in table.setups:
        place = f"_{setup.preset}_{setup.budget or 'all'}" if len(table.setups) > 1 else ""
        lines.append(f"# {setup}. DATA: the dataset folder that semiseg import {setup.preset} wrote.")
        lines += [_command(row, setup, f"{table.paper}_{_slug(table.number)}{place}") for row in table.rows]
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


def _command(row: Row, setup: Setup, prefix: str) -> str:
    words = ["semiseg", "train", "DATA", "--preset", setup.preset]
    if setup.budget is not None:
        words += ["--labelled", str(setup.budget)]
    words += ["--method", row.method]
    for assignment in row.assignments:
        words += ["--set", assignment]
    return shlex.join([*words, "--output", f"runs/{prefix}_{_slug(row.name)}"])


def _slug(name: str) -> str:
    """`name` in lower case, without what a folder's name should not hold."""
    text = re.sub(r"\|(.*)\|", r"abs-\1", name.lower()).replace("+", "-")
    return re.sub(r"[^a-z0-9_.-]+", "-", text).strip("-.").replace(".-", "-")
