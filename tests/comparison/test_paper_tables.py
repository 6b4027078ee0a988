"""Method groups by the papers' comparison tables."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from semiseg.cli import app
from semiseg.comparison.grid import load_grid
from semiseg.comparison.paper_tables import choices
from semiseg.errors import InputError
from semiseg.methods.base import registry
from semiseg.papers import PRINTED, comparisons, tables_of

IMBALANCE = "uamt urpc cps ssnet dst depl adsh crest simis basak cld dhc micd"
SLICES = "uamt sassnet dtc urpc mcnet ssnet mcf cml"
DECODERS = "uamt sassnet dtc asenet ssnet mcnet_plus fussnet bcp lefed"
LA = "uamt dtc cpcl mcnet scpnet fixmatch mcnet_plus simcvd caml unimatch psmt bcp eic tracoco mlrpl admt distillmatch"
ROWS = {
    "micd/I": ("amos", "5%", IMBALANCE),
    "micd/II": ("amos", "2%", IMBALANCE),
    "micd/III": ("synapse", "20%", IMBALANCE),
    "ducisc/I": ("la", 8, f"{LA} ducisc"),
    "ducisc/II": ("pancreas", 6, "uamt dtc mcnet mcnet_plus unimatch psmt mlrpl tracoco admt ducisc"),
    "ducisc/III": ("ian", 9, "uamt bcp mcnet_plus mlrpl ducisc"),
    "ducisc/IV": (
        "acdc",
        7,
        "uamt urpc sassnet dtc cps ssnet mcnet_plus unimatch psmt bcp admt distillmatch ducisc",
    ),
    "ducisc/V": ("la", 8, "bcp mcnet_plus mlrpl ducisc"),
    "cml/1": ("la", 4, SLICES),
    "cml/2": ("acdc", 3, SLICES),
    "cml/3": ("brats2019", 25, "mean_teacher dan uamt ict entropy_minimization urpc mcf cml"),
    "lefed/I": ("pancreas", 6, DECODERS),
    "lefed/II": ("lung_tumor", 10, DECODERS),
    "lefed/III": ("la", 16, DECODERS),
}
"""By table: a preset, a budget that it prints, and the methods that it prints for it, in its order."""


def words(table: str, **changes: object) -> dict[str, object]:
    name, labelled, _ = ROWS[table]
    return {"methods": [f"table:{table}"], "presets": [name], "labelled": [labelled], **changes}


def printed(table: str) -> list[str]:
    return [method for method in ROWS[table][2].split() if method in registry()]


def test_all_comparison_tables_are_known() -> None:
    assert {table.name for table in comparisons()} == ROWS.keys()


@pytest.mark.parametrize("table", ROWS)
def test_the_methods_of_every_table(table: str) -> None:
    assert load_grid(None, words(table)).labels == printed(table)


def test_every_printed_row_has_one_name_of_ours() -> None:
    for table in comparisons():
        for name in table.printed(table.columns):
            assert sum(name in names for names in PRINTED.values()) == 1, name
    assert PRINTED.keys() - registry().keys() <= {"fussnet", "cpcl", "caml"}


def test_other_budgets_have_other_rows() -> None:
    assert not {"psmt", "eic", "admt"} & {*load_grid(None, words("ducisc/I", labelled=[16])).labels}
    assert "bcp" in load_grid(None, words("ducisc/II", labelled=[12])).labels
    both = load_grid(None, words("ducisc/II", labelled=[6, "20%"])).labels
    assert {"bcp", "simcvd", "psmt"} <= {*both}
    assert load_grid(None, words("ducisc/V", presets=["pancreas"], labelled=[12])).labels == printed("ducisc/V")
    assert load_grid(None, words("ducisc/I", labelled=[], splits=["l16_honest"])).labels == (
        load_grid(None, words("ducisc/I", labelled=[16])).labels
    )


def test_a_budget_that_a_table_does_not_print_takes_all_its_methods() -> None:
    every = load_grid(None, words("ducisc/II", labelled=[3])).labels
    assert {*every} == {*printed("ducisc/II"), "simcvd", "eic", "bcp"}
    assert load_grid(None, words("ducisc/II", presets=[])).labels == every


def test_tables_stand_beside_methods_and_each_other_and_come_back_from_a_file(tmp_path: Path) -> None:
    own = {"method": "bcp", "settings": {"options": {"weight": 0.25}}}
    grid = load_grid(None, words("ducisc/V", methods=["lefed", own, "table:ducisc/V", "table:ducisc/I"]))
    assert grid.labels[:5] == ["lefed", "bcp", "mcnet_plus", "mlrpl", "ducisc"]
    assert {*grid.labels} == {"lefed", *printed("ducisc/I")}
    assert grid.methods[1].settings == own["settings"]
    assert grid.tables == ("ducisc/V", "ducisc/I")
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(grid.model_dump(mode="json")))
    assert load_grid(file, {}) == grid
    assert load_grid(file, {"methods": ["cps"]}).labels == ["cps"]


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    left = {name: found for name, found in registry().items() if name not in ("mlrpl", "mlrpl-official")}
    monkeypatch.setattr("semiseg.papers.names.registry", lambda: left)
    (choice,) = choices(load_grid(None, words("ducisc/V")))
    assert str(choice) == (
        "DuCiSC, Table V (LA 10 %): bcp, mcnet_plus, ducisc; supervised is control and bound; not here: MLRPL."
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ducis/I", "a paper of cml, ducisc, lefed, micd, came 'ducis'"),
        ("ducisc", "tables of ducisc are I, II, III, IV, V, came ''"),
        ("ducisc/VI", "tables of ducisc are I, II, III, IV, V, came 'VI'"),
        ("cml/4", "tables of cml are 1, 2, 3, came '4'"),
        ("ducisc/II", "expected --preset pancreas, came la"),
    ],
)
def test_wrong_tables_are_refused_with_the_known_ones(name: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        load_grid(None, {"methods": [f"table:{name}", "table:none/I"], "presets": ["la"], "labelled": [8]})
    assert told in caught.value.problems[0]
    assert "none" in caught.value.problems[1]


def answered(*more: str) -> str:
    asked = ["compare", "--preset", "la", "--labelled", "8", "--seeds", "1", "--dry-run", *more]
    answer = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_a_dry_run_lists_a_table_with_the_papers_figures() -> None:
    text = answered("--methods", "table:ducisc/V", "--set", "protocol=paper", "--paper")
    rows = [line.split() for line in text.splitlines() if line.startswith("la_")]
    assert [row[0] for row in rows] == [
        "la_supervised_l8_s0",
        *(f"la_{method}_l8_s0" for method in printed("ducisc/V")),
        "la_supervised_all_s0",
    ]
    assert [row[3] for row in rows] == ["0.3427", "0.4338", "0.4689", "0.4292", "0.9433", "-"]
    assert "DuCiSC, Table V, LA: test-selected" in text
    assert "DuCiSC, Table V" not in answered("--methods", "bcp", "--paper")


def test_a_dry_run_without_tables_has_the_main_figures_of_every_paper() -> None:
    text = answered("--methods", "ducisc", "mean_teacher", "--no-control", "--no-bound", "--paper")
    row = next(line for line in text.splitlines() if line.startswith("la_ducisc_l8_s0"))
    assert "91.81/84.93/5.08/1.54" in row
    assert next(line for line in text.splitlines() if line.startswith("la_mean_teacher")).split()[3] == "-"


def test_the_tables_of_a_method() -> None:
    assert [table.name for table in tables_of(["mcnet", "mcnet_plus"])] == [
        "cml/1",
        "cml/2",
        *(f"ducisc/{number}" for number in ("I", "II", "III", "IV", "V")),
        "lefed/I",
        "lefed/II",
        "lefed/III",
    ]
    assert tables_of(["pi_model"]) == []
