"""The papers' ablation rows as settings."""

from __future__ import annotations

import shlex
from dataclasses import replace
from itertools import pairwise

import pytest
import yaml
from typer.testing import CliRunner

import semiseg
from semiseg.cli import app
from semiseg.config import load_config
from semiseg.errors import InputError
from semiseg.methods.base import entry, registry
from semiseg.methods.describe import describe, page
from semiseg.papers import Row, Setup, paper_of, papers, replay, tables

TABLES = [(paper, table) for paper in papers() for table in paper.tables]
every_table = pytest.mark.parametrize(
    ("paper", "table"), TABLES, ids=[f"{paper.name}-{table.number}" for paper, table in TABLES]
)
COMPARISONS = {"micd": {"I", "II", "III"}, "ducisc": {"I", "II", "III", "IV", "V"}, "cml": {"1", "2", "3"}}
"""Tables that compare whole methods."""


def test_every_printed_row_of_every_ablation_is_there():
    for paper in papers():
        others = COMPARISONS.get(paper.name, set()) | {"text"}
        printed = {(f.table, f.method) for f in paper.figures if f.table not in others}
        rows = {(table.number, row.name) for table in paper.tables for row in table.rows}
        assert printed <= rows
        assert len(rows) == sum(len(table.rows) for table in paper.tables)


@every_table
def test_printed_figures_are_found(paper, table):
    found = [figure for row in table.rows for setup in table.setups if (figure := table.figure(row, setup))]
    same = [f for f in paper.figures if f.table == table.number and f.metric == "Dice"]
    assert len(found) == len(same)
    assert bool(found) == table.title.startswith("Table")


@every_table
def test_assignments_give_the_settings_back(paper, table):
    for row in table.rows:
        for setup in table.setups:
            config = load_config(None, {"data": "DATA", "method": row.method}, row.assignments(setup))
            own = {} if row.method == "supervised" else setup.options
            assert config.options == {**own, **row.options}
            assert config.network.name == setup.settings["network.name"]


@every_table
def test_rows_differ_in_their_settings_and_one_is_the_method_itself(paper, table):
    configs = [(entry(row.method).cls, entry(row.method).configure(row.options)) for row in table.rows]
    assert all(configs[i] != configs[k] for i in range(len(configs)) for k in range(i))
    assert (entry(paper.method).cls, entry(paper.method).configure({})) in configs


@every_table
def test_commands_are_one_per_row_and_run_as_they_are(paper, table):
    commands = [shlex.split(line) for line in replay(paper.method, table.number).splitlines() if line[0] != "#"]
    assert len(commands) % len(table.rows) == 0
    outputs = {command[-1] for command in commands}
    assert len(outputs) == len(commands)
    for words in commands:
        assert words[:4] == ["semiseg", "train", "DATA", "--labelled"]
        assignments = [word for flag, word in pairwise(words) if flag == "--set"]
        method = words[words.index("--method") + 1]
        load_config(None, {"data": "DATA", "labelled": 8, "method": method}, assignments)


def test_setups_with_settings_of_their_own_have_commands_of_their_own():
    text = replay("cml", "4")
    assert text.count("semiseg train") == 8
    assert "options.mix_ratio=0.5" in text
    assert text.count("--method supervised --set network.name=") == 2
    assert replay("ducisc", "VI").count("semiseg train") == 6


def test_wrong_rows_are_refused_on_loading(monkeypatch, tmp_path):
    source = tables.files("semiseg.papers")
    text = (source / "lefed.yaml").read_text()
    monkeypatch.setattr(tables, "files", lambda _: tmp_path)
    (tmp_path / "lefed.yaml").write_text(text.replace("loss_b: dice", "loss_b: dise"))
    with pytest.raises(InputError, match="dise"):
        tables._load("lefed")
    values = yaml.safe_load(text)
    values["tables"][0]["rows"][0]["optoins"] = {}
    (tmp_path / "lefed.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match="optoins"):
        tables._load("lefed")


def test_rows_belong_to_the_papers_method_and_its_variants():
    with_tables = {name for name, item in registry().items() if paper_of(item)}
    assert {"micd", "micd-paper", "ducisc", "ducisc-paper", "cml", "cml-cfl", "lefed", "lefed-official"} <= with_tables
    assert not with_tables & {"supervised", "cps", "mean_teacher", "dhc"}
    infos = {info.name: info for info in semiseg.list_methods()}
    assert [table.number for table in infos["lefed-official"].tables] == ["IV", "V", "VI", "Fig. 5"]
    assert infos["cps"].tables == ()


def test_a_row_writes_all_kinds_of_values():
    row = Row("r", "micd", {"mask_block": [3, 4], "cfc": False, "ramp_length": None, "mcpc": "off", "weight": 0.1})
    setup = Setup("LA", "10%", {"network.name": "vnet"})
    assert row.assignments(setup) == (
        "network.name=vnet",
        "options.mask_block=[3, 4]",
        "options.cfc=false",
        "options.ramp_length=null",
        "options.mcpc=off",
        "options.weight=0.1",
    )
    assert row.assignments(replace(setup, options={"weight": 2, "ramp": "none"}))[1] == "options.weight=0.1"


def test_the_page_shows_table_row_figures_and_settings():
    lines = page(describe(entry("ducisc-paper"))).splitlines()
    at = lines.index("    sup+cs_mix+proto_mix: 90.00, 79.02")
    assert lines[at + 1].split() == [
        *("--method", "ducisc"),
        *("--set", "options.weight_cs_ulb=0"),
        *("--set", "options.weight_proto_ulb=0"),
    ]
    assert "    probability 0.95: 91.24, 91.36, -, 81.90, 74.44, 74.58" in lines
    assert any("--table VI" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--table", "VI"), "needs a method"),
        (("cps", "--table", "I"), "no tables are known"),
        (("ducisc", "--table", "XI"), "did you mean"),
        (("micdd", "--table", "IV"), "did you mean 'micd'"),
    ],
)
def test_wrong_tables_are_told(words, problem):
    result = CliRunner().invoke(app, ["methods", *words])
    assert isinstance(result.exception, InputError)
    assert problem in str(result.exception)


def test_command_line_prints_the_commands():
    result = CliRunner().invoke(app, ["methods", "lefed", "--table", "fig5"])
    assert result.exit_code == 0
    assert result.output.strip() == replay("lefed", "Fig. 5")
    assert "runs/lefed_fig-5_abs-a-b" in result.output
