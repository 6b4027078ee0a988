"""The switches of the papers' ablations switch: every row trained for two steps."""

from __future__ import annotations

import re

import pytest

from scripts import ROOT, load_script
from semiseg.methods.base import entry
from semiseg.papers import papers
from semiseg.runs.folder import Run

ablations = load_script("benchmarks/ablations.py")
PAPERS = [paper.name for paper in papers()]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return ablations.Bench(tmp_path_factory.mktemp("ablations"))


@pytest.fixture(scope="module", params=papers(), ids=PAPERS)
def outcomes(request, bench):
    return request.param, bench.outcomes(request.param)


def test_terms_are_those_of_the_committed_page(outcomes):
    paper, found = outcomes
    text = (ROOT / "docs" / "ablations.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {paper.method}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    lines = [line.split(" | ") for line in section[1].splitlines() if re.match(r"\| .* \| [0-9.]+ \| ", line)]
    committed = [(line[0].removeprefix("| "), line[2].removesuffix(" |")) for line in lines]
    assert committed == [
        (ablations.cell(row.name), ", ".join(found[table.number, row.name].terms))
        for table, row in ablations.rows(paper)
    ]


def test_rows_with_other_settings_train_otherwise(outcomes):
    paper, found = outcomes
    for table in paper.tables:
        for k, row in enumerate(table.rows):
            for other in table.rows[:k]:
                one, two = found[table.number, row.name], found[table.number, other.name]
                assert not one.equals(two), f"{table.title}: {row.name} trains as {other.name} does"


def test_rows_that_come_to_the_defaults_are_the_method_itself(outcomes):
    paper, found = outcomes
    plain = entry(paper.method).configure({})
    same = [
        found[table.number, row.name]
        for table, row in ablations.rows(paper)
        if row.method == paper.method and entry(row.method).configure(row.options) == plain
    ]
    assert len(same) == len(paper.tables)
    assert all(outcome.equals(same[0]) for outcome in same)


@pytest.mark.parametrize("name", PAPERS)
def test_a_row_trained_twice_ends_with_the_same_bits(name, bench, tmp_path):
    paper = next(paper for paper in papers() if paper.name == name)
    settings = ablations.assignments(paper.tables[0].rows[-1], paper.tables[0].setups[0], name)
    one, two = (ablations.train(bench._config(paper.method, settings, 2), Run(tmp_path / k)) for k in "ab")
    assert one.equals(two)
    assert len(one.totals) == (6 if name == "lefed" else 2)


def test_toy_settings_hide_no_option_of_a_row():
    for paper in papers():
        for _, row in ablations.rows(paper):
            overwritten = row.options.keys() & ablations.TOY[paper.name].keys()
            assert overwritten <= {"probability"}
            assert entry(row.method).configure({**row.options})
