"""The page on the papers' datasets: its commands run on small downloads, and it tells of every option and split."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from downloads import brats_download, ian_download, la_download, lung_download, pancreas_download
from downloads_organs import FRAMES, acdc_download, amos_download, msd_task, synapse_download
from semiseg.cli import app
from semiseg.conversion.papers import abdomen
from semiseg.conversion.papers.base import importer, importers
from semiseg.conversion.papers.official import official_lists
from semiseg.datasets.dataset import open_dataset
from semiseg.preparing.store import open_store
from semiseg.runs.folder import Run
from semiseg.scans.readers import read_image
from semiseg.settings.presets import names as preset_names
from semiseg.settings.presets import preset

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


def commands(name: str) -> dict[str, list[str]]:
    """Arguments of the commands in the first block of a section, by command."""
    block = re.search(r"```\n(.*?)```", SECTIONS[name], re.DOTALL)
    assert block is not None
    found = [shlex.split(line)[1:] for line in block[1].splitlines() if line.startswith("semiseg ")]
    return {arguments[0]: arguments for arguments in found}


SHORT = {"vnet": {"filters": 2}, "unet2d": {"filters": [2, 4, 8, 8, 8]}, "unet": {"filters": [4, 8]}}
"""Networks that take no time."""


def shortened(arguments: list[str]) -> list[str]:
    """A train command with two steps of a tiny network on tiny patches, in place of the page's."""
    name = arguments[arguments.index("--preset") + 1] if "--preset" in arguments else None
    network = preset(name).run["network"]["name"] if name else "unet"
    flat = name is not None and preset(name).plan["spatial_dims"] == 2
    sets = [f"network.options={json.dumps(SHORT[network])}", f"batch.patch={[32] * (2 if flat else 3)}"]
    sets += ["batch.labelled=2", "batch.unlabelled=2", "precision=fp32", "accelerator=cpu", "window.stride=null"]
    sets += ["plan.slice_size=[32, 32]"] * flat
    few = ["--labelled", "1", "--test", "1"] if name is None else []
    return [*arguments, *few, "--steps", "2", "-o", "run", *(part for value in sets for part in ("--set", value))]


def answer(arguments: list[str]) -> str:
    found = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def test_every_dataset_has_a_section() -> None:
    assert set(SECTIONS) == set(importers())


@pytest.mark.parametrize("name", SOURCES)
def test_commands(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's commands end in a trained run of the paper's settings on the published split."""
    SOURCES[name](tmp_path / "downloads" / name)
    monkeypatch.setattr(abdomen, "STATIC_GRID", (16, 16, 8))
    monkeypatch.chdir(tmp_path)
    page = commands(name)
    assert list(page) == ["import", "check", "train"]
    answer([*page["import"], "--workers", "1"])
    answer([*page["check"], "--workers", "1"])
    data = Path(page["train"][1])
    told = answer(shortened(page["train"]))
    run = Run(Path("run"))
    assert run.finished
    if name == "msd":
        assert not (data / "splits").exists()
        return
    config = run.config()
    assert f"preset {name}, method {config.method}" in told
    assert config.based_on == name
    assert config.split is not None
    assert config.split.parent.resolve() == (data / "splits").resolve()
    assert not any(line.startswith(("split", "labels")) for line in told.splitlines())
    assert run.split().labelled
    _check_scales(data, run)
    answer(["predict", "run"])
    assert "label budget" in answer(["evaluate", "run", "--workers", "1"])


def _check_scales(data: Path, run: Run) -> None:
    """What the import scaled goes into the network as it is."""
    assert json.loads((data / "dataset.json").read_text())["imported"]["normalised"]
    store = open_store(run.config().prepared or data / run.config().plan.folder)
    for case, found in open_dataset(data).cases.items():
        wanted = np.concatenate([np.unique(read_image([path]).array) for path in found.images]).astype(np.float16)
        assert set(np.unique(store.image(case))) <= set(wanted.tolist())


def test_protocols_are_those_of_the_presets() -> None:
    """The table of what chooses the weights under `--protocol paper`."""
    section = PAGE.split("\n## Presets and protocols\n")[1].split("\n## ")[0]
    told: dict[tuple[str, str], str] = {}
    for names, methods, rule in re.findall(r"^\| (`[^|]*) \| ([^|]*) \| ([^|]*) \|$", section, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            for method in preset(name).methods if methods == "all" else methods.split(", "):
                told[name, method] = rule
    known = {(name, method) for name in preset_names() for method in preset(name).methods}
    variants = {pair for pair in known if pair[1].endswith(("-official", "-paper"))}
    assert known - variants <= set(told)
    for (name, method), rule in told.items():
        settings = preset(name).settings(method, None, "paper")
        chosen = settings.get("select_on") if settings.get("select") == "best" else "last"
        assert str(chosen) in rule, (name, method)


@pytest.mark.parametrize("name", SOURCES)
def test_options_and_splits_are_told(name: str, tmp_path: Path) -> None:
    chosen = importer(name)
    section = SECTIONS[name]
    for option in chosen.options.model_fields:
        assert re.search(rf"`{option}\b", section), option
    cases = [f"P{number}" for number in range(153)] + [f"{patient}_frame01" for patient in FRAMES]
    for split in chosen.splits(cases, chosen.options()):
        assert split.endswith("_honest") or f"`{split}`" in section, split
