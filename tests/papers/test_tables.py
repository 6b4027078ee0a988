"""The papers' ablation rows as settings."""

from __future__ import annotations

import shlex

import pytest
import yaml
from typer.testing import CliRunner

import semiseg
from semiseg.api.lists import describe
from semiseg.cli import app
from semiseg.cli.pages import method_page as page
from semiseg.errors import InputError
from semiseg.methods.base import entry, registry
from semiseg.papers import Row, Setup, paper_of, papers, replay, tables
from semiseg.settings.load import load_config
from semiseg.settings.presets import deviations

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


BUDGETS = {
    ("LA", "10%"): ("la", 8),
    ("LA", "20%"): ("la", 16),
    ("Pancreas-NIH", "10%"): ("pancreas", 6),
    ("Pancreas-NIH", "20%"): ("pancreas", 12),
    ("IAN", "10%"): ("ian", 9),
    ("IAN", "20%"): ("ian", 18),
    ("ACDC", "10%"): ("acdc", 7),
    ("BraTS2019", "10%"): ("brats2019", 25),
    ("Lung tumour", "20%"): ("lung_tumor", 10),
    ("AMOS", "5%"): ("amos", 10),
}
"""Preset and `--labelled` by dataset and share, as the papers count them."""


def test_shares_become_the_papers_numbers_of_labels():
    used = {(setup.dataset, setup.labelled) for _, table in TABLES for setup in table.setups}
    assert used == BUDGETS.keys()
    for key, found in BUDGETS.items():
        assert (Setup(*key).preset, Setup(*key).budget) == found
    every = {(f.dataset, f.labelled) for paper in papers() for f in paper.figures}
    assert {Setup(*key).budget for key in every if key[1] == "100%"} == {None}
    assert Setup("Synapse", "40%").budget == 8
    assert Setup("AMOS", "2%").budget == 4


@every_table
def test_assignments_give_the_settings_back(paper, table):
    for row in table.rows:
        config = load_config(None, {"data": "DATA", "method": row.method}, row.assignments)
        assert config.options == row.options
        assert {name: config.model_dump()[name] for name in row.settings} == row.settings


@every_table
def test_rows_differ_in_their_settings_and_one_is_the_method_itself(paper, table):
    configs = [(entry(row.method).cls, entry(row.method).configure(row.options)) for row in table.rows]
    assert all(configs[i] != configs[k] for i in range(len(configs)) for k in range(i))
    assert (entry(paper.method).cls, entry(paper.method).configure({})) in configs


def _parsed(command):
    """Settings of a printed command as the command line reads them, its assignments, and the run folder."""
    words = shlex.split(command)
    assert words[:3] == ["semiseg", "train", "DATA"]
    pairs = list(zip(words[3::2], words[4::2], strict=True))
    assignments = [word for flag, word in pairs if flag == "--set"]
    flags = {flag.removeprefix("--"): word for flag, word in pairs if flag != "--set"}
    output = flags.pop("output")
    given = {"data": "DATA", **flags, "labelled": int(flags["labelled"]) if "labelled" in flags else None}
    return given, assignments, output


@every_table
def test_printed_commands_replay_the_preset_of_their_data_but_for_what_the_row_changes(paper, table):
    commands = [line for line in replay(paper.method, table.number).splitlines() if line[0] != "#"]
    cells = [(setup, row) for setup in table.setups for row in table.rows]
    outputs = set()
    for command, (setup, row) in zip(commands, cells, strict=True):
        given, assignments, output = _parsed(command)
        outputs.add(output)
        name, labelled = BUDGETS[setup.dataset, setup.labelled]
        assert given == {"data": "DATA", "preset": name, "labelled": labelled, "method": row.method}
        config = load_config(None, given, assignments)
        plain = load_config(None, {**given, "protocol": row.settings.get("protocol")})
        assert config.based_on == name
        assert config.options == {**plain.options, **row.options}
        changed = {field for field in type(config).model_fields if getattr(config, field) != getattr(plain, field)} - {
            "options"
        }
        assert changed <= row.settings.keys()
    assert len(outputs) == len(commands)


@every_table
def test_printed_commands_are_the_papers_under_its_protocol(paper, table):
    """But for the split, which is in the imported dataset, a run differs from the paper in what the row changes."""
    commands = [line for line in replay(paper.method, table.number).splitlines() if line[0] != "#"]
    cells = [row for _ in table.setups for row in table.rows]
    for command, row in zip(commands, cells, strict=True):
        given, assignments, _ = _parsed(command)
        config = load_config(None, {**given, "protocol": "paper", "validation": 1}, assignments)
        told = {line.split(":")[0] for line in deviations(config)}
        assert told <= {"split", *row.changes}


def test_commands_of_a_table_name_the_data_and_its_number_of_labels():
    text = replay("cml", "4")
    assert text.count("semiseg train DATA --preset la --labelled 8 --method") == 4
    assert text.count("semiseg train DATA --preset acdc --labelled 7 --method") == 4
    assert "network" not in text
    assert replay("ducisc", "VII").count("semiseg train") == 5 * 6
    assert replay("micd-paper", "IV").count("--preset amos --labelled 10") == 8
    supervised = [line for line in text.splitlines() if "--method supervised" in line]
    batches = [load_config(None, *_parsed(line)[:2]).batch for line in supervised]
    assert [(batch.labelled, batch.unlabelled) for batch in batches] == [(4, 0), (24, 0)]


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
    options = {"mask_block": [3, 4], "cfc": False, "ramp_length": None, "mcpc": "off", "weight": 0.1}
    row = Row("r", "micd", options, {"validate_every": 100})
    assert row.assignments == (
        "validate_every=100",
        "options.mask_block=[3, 4]",
        "options.cfc=false",
        "options.ramp_length=null",
        "options.mcpc=off",
        "options.weight=0.1",
    )


def test_the_sweeps_of_the_plots_are_there():
    found = {(paper.name, table.number): table for paper, table in TABLES}
    for letter, option in zip("ab", ("unlabelled_weight", "discrepancy_weight"), strict=True):
        table = found["cml", f"Fig. 5{letter}"]
        assert [row.options[option] for row in table.rows] == [0.1, 0.2, 0.5, 1]
        assert [setup.preset for setup in table.setups] == ["la", "acdc", "brats2019"]
    assert [row.options["mix_ratio"] for row in found["cml", "Fig. 5c"].rows] == pytest.approx(
        [1 / 3, 1 / 2, 2 / 3, 5 / 6]
    )
    assert [setup.preset for setup in found["cml", "Fig. 6"].setups] == ["la", "acdc", "brats2019"]
    weights = ("weight_proto_ulb", "weight_proto_mix", "weight_cs_ulb", "weight_cs_mix")
    for letter, option in zip("abcd", weights, strict=True):
        assert [row.options[option] for row in found["ducisc", f"Fig. 6{letter}"].rows] == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert {0.9, 0.99} < {row.options["threshold_momentum"] for row in found["ducisc", "Fig. 7a"].rows}
    (curve,) = found["ducisc", "Fig. 7b"].rows
    assert (curve.settings["validate_every"], curve.settings["select_on"]) == (100, "test")
    scales = [row.options["scales"] for row in found["lefed", "IV"].rows if "scales" in row.options]
    assert scales == [1, 2, 3, 4]


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
