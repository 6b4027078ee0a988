"""The page on the papers' datasets: its commands run on small downloads, and it tells of every option and split."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from downloads import brats_download, ian_download, la_download, lung_download, pancreas_download
from downloads_organs import FRAMES, acdc_download, amos_download, msd_task, synapse_download
from semiseg.cli import app
from semiseg.data.dataset import open_dataset
from semiseg.data.importers import abdomen
from semiseg.data.importers.base import importer, importers
from semiseg.data.importers.official import official_lists
from semiseg.data.splits import load_split

PAGE = (Path(__file__).parents[1] / "docs" / "papers_datasets.md").read_text(encoding="utf-8")
SECTIONS = {
    match[1]: part for part in PAGE.split("\n## ")[1:] if (match := re.match(r"[^\n]*`(\w+)`\n", part)) is not None
}


def _official(name: str, train: int) -> list[str]:
    lists = official_lists(name)
    return [*lists["train"][:train], *lists.get("validation", [])[:1], *lists["test"][:1]]


SOURCES: dict[str, Callable[[Path], object]] = {
    "la": lambda root: la_download(root, _official("la", 6)),
    "pancreas": lambda root: pancreas_download(root, (57, 18, 50)),
    "ian": lambda root: ian_download(root, [f"P{number}" for number in range(13)]),
    "brats2019": lambda root: brats_download(root, _official("brats2019", 2)),
    "acdc": acdc_download,
    "amos": lambda root: amos_download(root, ("amos_0078", "amos_0042", "amos_0027"), ("amos_0008",)),
    "synapse": lambda root: synapse_download(root, ("0021", "0003", "0035", "0008")),
    "msd": lambda root: msd_task(root, channels=2),
    "lung_tumor": lambda root: lung_download(root, range(1, 15)),
}
"""A small download for every section."""


def commands(name: str) -> list[list[str]]:
    """Arguments of the commands in the first block of a section."""
    block = re.search(r"```\n(.*?)```", SECTIONS[name], re.DOTALL)
    assert block is not None
    return [shlex.split(line)[1:] for line in block[1].splitlines() if line.startswith("semiseg ")]


def test_every_dataset_has_a_section() -> None:
    assert set(SECTIONS) == set(importers())


@pytest.mark.parametrize("name", SOURCES)
def test_commands(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SOURCES[name](tmp_path / "downloads" / name)
    monkeypatch.setattr(abdomen, "STATIC_GRID", (16, 16, 8))
    monkeypatch.chdir(tmp_path)
    found = {arguments[0]: arguments for arguments in commands(name)}
    assert list(found) == ["import", "check", "prepare", "train"]
    for command in ("import", "check", "prepare"):
        extra = ["--workers", "1"] if command != "check" else []
        answer = CliRunner().invoke(app, [*found[command], *extra], catch_exceptions=False)
        assert answer.exit_code == 0, answer.output
    dataset = open_dataset(Path(found["train"][1]))
    if "--split" in found["train"]:
        assert load_split(Path(found["train"][found["train"].index("--split") + 1]), dataset).labelled
    else:
        assert not Path(found["train"][1], "splits").exists()


@pytest.mark.parametrize("name", SOURCES)
def test_options_and_splits_are_told(name: str, tmp_path: Path) -> None:
    chosen = importer(name)
    section = SECTIONS[name]
    for option in chosen.options.model_fields:
        assert re.search(rf"`{option}\b", section), option
    cases = [f"P{number}" for number in range(153)] + [f"{patient}_frame01" for patient in FRAMES]
    for split in chosen.splits(cases, chosen.options()):
        assert split.endswith("_honest") or f"`{split}`" in section, split
