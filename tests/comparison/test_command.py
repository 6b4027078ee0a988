"""The words of `semiseg compare`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from semiseg.cli import app
from semiseg.errors import InputError


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
        *(f"{name}_{budget}_s0" for name in ("supervised", "micd", "cps") for budget in ("l4", "l8")),
        "supervised_all_s0",
    }
    assert text.count(" 9 ") == 7


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


def test_wrong_words(tmp_path: Path) -> None:
    here = (tmp_path / "none", "-n", 4)
    assert "did you mean 'micd'?" in refused(*here, "-m", "mcid", "cps")[0]
    assert "such as timeout_min=600" in refused(*here, "--slurm", "x")[0]
    assert "did you mean 'slurm'?" in refused(*here, "--launcher", "slrum")[0]
    assert "label budget" in refused(tmp_path / "none")[0]
    assert "unknown method" in refused("-m", "micd", tmp_path / "none", "-n", 4)[0]
