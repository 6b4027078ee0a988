"""The words of `semiseg compare`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from semiseg.cli import app
from semiseg.comparison.grid import load_grid
from semiseg.errors import InputError
from semiseg.methods.base import registry
from semiseg.settings.presets import preset


def planned(*words: object) -> str:
    """What `--dry-run` prints."""
    answer = CliRunner().invoke(app, ["compare", *map(str, words), "--dry-run"], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.output


def refused(*words: object) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        CliRunner().invoke(app, ["compare", *map(str, words), "--dry-run"], catch_exceptions=False)
    return caught.value.problems


def cells(text: str) -> set[str]:
    return {line.split()[0] for line in text.splitlines() if line.endswith("unknown")}


def test_options_take_several_words(tmp_path: Path) -> None:
    text = planned(tmp_path / "none", "--methods", "micd", "cps", "--labelled", 4, 8, "--seeds", 1, "--set", "steps=9")
    assert cells(text) == {
        *(
            f"{name}_{budget}_s0"
            for name in ("supervised", "supervised_pair", "micd", "cps")
            for budget in ("l4", "l8")
        ),
        "supervised_all_s0",
    }
    assert [line.split()[2] for line in text.splitlines() if line.endswith("unknown")] == ["9"] * 9


def test_options_may_be_repeated_instead(tmp_path: Path) -> None:
    words = ("--seeds", 2, "--no-bound", "--no-control")
    one = planned(tmp_path / "none", "-m", "micd", "cps", "-n", 4, 8, *words)
    two = planned(tmp_path / "none", "-m", "micd", "-m", "cps", "-n", 4, "-n", 8, *words)
    assert one == two
    assert len(cells(one)) == 8


def test_words_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump({"data": "none", "methods": ["micd", "cps"], "labelled": [4], "seeds": [5, 6]}))
    assert cells(planned("--config", file)) >= {"cps_l4_s5", "micd_l4_s6", "supervised_all_s5"}
    assert cells(planned("--config", file, "--labelled", 8, "--seeds", 1, "--no-bound", "--no-control")) == {
        "micd_l8_s0",
        "cps_l8_s0",
    }


@pytest.mark.slow
def test_the_plan_of_a_table_without_the_data() -> None:
    words = ("--preset", "amos", "--labelled", "2%", "5%", "10%", "--methods", "all", "--seeds", 1)
    text = planned(*words)
    rows = [line.split() for line in text.splitlines() if line.startswith("amos_")]
    methods = {row[0].removesuffix("_s0").rpartition("_")[0].removeprefix("amos_") for row in rows}
    controls = {f"{name}-201epochsx{patches}" for name in ("supervised", "supervised_pair") for patches in (1, 2)}
    own = {name for name in preset("amos").methods if name not in ("micd-paper", "supervised")}
    assert methods == own | controls
    assert len(rows) == 3 * (13 + 4) + 2
    assert {row[1] for row in rows} == {"4", "10", "21", "all"}
    assert all(row[2:] == [row[2], "epochs", "open", "unknown"] for row in rows)  # nothing is measured, nothing is told
    assert "Time unknown until a cell of the same method is finished: " in text
    assert "hours" not in text


def test_all_methods_are_those_of_the_presets_or_every_one(tmp_path: Path) -> None:
    words = (tmp_path / "none", "--methods", "all", "--seeds", 1, "--no-bound", "--no-control", "--labelled", 8)
    assert {cell.removesuffix("_l8_s0") for cell in cells(planned(*words))} == set(registry())
    grid = load_grid(None, {"methods": ["all"], "presets": ["la", "acdc"], "labelled": [8]})
    of_la = ["supervised", "mean_teacher", "uamt", "urpc", "ssnet", "cps", "cml", "ducisc", "lefed"]
    of_la += ["dtc", "sassnet", "mlrpl", "asenet", "fussnet", "admt"]
    assert grid.labels == [
        *of_la,
        "bcp",
        "mcnet",
        "mcnet_plus",
        "unimatch",
        "mcf",
        "fixmatch",
        "psmt",
        "distillmatch",
        "tracoco",
        "scpnet",
        "cpcl",
        "caml",
        "eic",
        "simcvd",
    ]


def test_controls_and_paired_test_are_words_of_the_command(tmp_path: Path) -> None:
    here = (tmp_path / "none", "-n", 4, "-m", "lefed", "cps", "--seeds", 1, "--no-bound")
    own = {"lefed_l4_s0", "cps_l4_s0", "supervised_l4_s0"}
    assert cells(planned(*here)) == own | {"supervised-3x-updates_l4_s0", "supervised_pair_l4_s0"}
    assert cells(planned(*here, "--controls", "plain", "--paired-test", "t-one-sided")) == own
    told = refused(*here, "--controls", "some", "--paired-test", "anova")
    assert "'plain' or 'all'" in told[0]
    assert "'wilcoxon', 't' or 't-one-sided'" in told[1]


def test_wrong_words(tmp_path: Path) -> None:
    here = (tmp_path / "none", "-n", 4)
    assert "did you mean 'micd'?" in refused(*here, "-m", "mcid", "cps")[0]
    assert "such as timeout_min=600" in refused(*here, "--slurm", "x")[0]
    assert "did you mean 'slurm'?" in refused(*here, "--launcher", "slrum")[0]
    assert "label budget" in refused(tmp_path / "none")[0]
    assert "unknown method" in refused("-m", "micd", tmp_path / "none", "-n", 4)[0]
