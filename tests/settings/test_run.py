"""Settings: typed, complete, and every mistake named with its remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from semiseg.errors import InputError
from semiseg.settings.load import load_config
from semiseg.settings.run import RunConfig


def test_yaml_round_trip(tmp_path: Path) -> None:
    config = load_config(
        None, {"data": "scans", "method": "dhc", "labelled": 3}, ["optimiser.lr=0.02", "batch.patch=[32, 48, 32]"]
    )
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert load_config(tmp_path / "config.yaml", {}) == config
    assert config.optimiser.lr == 0.02
    assert config.batch.patch == (32, 48, 32)


def test_arguments_win_over_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("data: scans\nsteps: 5\nseed: 7\n")
    config = load_config(tmp_path / "a.yaml", {"steps": 9, "seed": None})
    assert (config.steps, config.seed) == (9, 7)


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["optimser.lr=1"], "did you mean 'optimiser'?"),
        (["optimiser.learning=1"], "unknown setting 'optimiser.learning'"),
        (["method=mcid"], "did you mean 'micd'?"),
        (["options.mask_ration=0.3"], "did you mean 'mask_ratio'?"),
        (["options.mask_ratio=1.5"], "less than or equal to 1"),
        (["steps=0"], "greater than or equal to 1"),
        (["steps"], "expected NAME=VALUE"),
        (["labelled=3", "split=a.json"], "exclude each other"),
        (["select=best"], "needs validation cases"),
    ],
)
def test_mistakes_are_named(assignments: list[str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config(None, {"data": "scans"}, assignments)
    assert words in str(caught.value)


def test_all_mistakes_at_once() -> None:
    with pytest.raises(InputError) as caught:
        load_config(None, {}, ["steps=-1", "sed=3", "optimiser.lr=fast"])
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [1\n", "\x00"])
def test_files_that_are_no_settings(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(InputError, match=r"a\.yaml"):
        load_config(tmp_path / "a.yaml", {})


def test_defaults_are_micd_and_honest() -> None:
    config = RunConfig(data=Path("scans"))
    assert (config.method, config.protocol, config.select) == ("micd", "honest", "last")


def test_paths_hold_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(None, {"data": "scans", "split": "a.json"})
    assert (config.data, config.split) == (tmp_path / "scans", tmp_path / "a.json")
    assert "prepared: null" in config.to_yaml()


def test_a_network_is_named_in_python_as_on_the_command_line(tmp_path):
    assert load_config(None, {"data": tmp_path, "network": "vnet"}).network.name == "vnet"
    assert RunConfig(data=tmp_path, optimiser="sgd").optimiser.name == "sgd"
