"""The page on one's own data: its commands run in their order, and print what the page shows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hospital import hospital_export
from scripts import ROOT
from semiseg.cli import app

PAGE = (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")

SHORTER = {"--steps 100": "--steps 2", "filters=[8,16]": "filters=[2,4] --set precision=fp32"}
"""What the page says, and what is run in its place."""

VOLATILE = ("train", "evaluate")
"""Commands whose figures depend on the length of the training."""


def shown() -> Iterator[tuple[str, str]]:
    """Commands of the page with the output that it shows."""
    for block in re.findall(r"^```\n(\$ .*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        command, _, output = block.partition("\n")
        yield command.removeprefix("$ "), output


def comparable(output: str, command: str) -> str:
    """`output` without line breaks, progress bars and, after a training, figures."""
    lines = [line for line in output.splitlines() if "━" not in line and "patches/s" not in line]
    text = " ".join(" ".join(lines).split())
    if command.split()[1] in VOLATILE:
        text = re.sub(r"\d+(\.\d+)?|\bnan\b", "#", text)
        text = re.sub(r"─+", "─", text)
    return text


def test_every_command_prints_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hospital_export(tmp_path / "export")
    monkeypatch.chdir(tmp_path)
    commands = dict(shown())
    for command, output in commands.items():
        run = command
        for told, short in SHORTER.items():
            run = run.replace(told, short)
        arguments = shlex.split(run)[1:]
        alone = ["--workers", "1"] if arguments[0] in ("init", "check", "prepare", "evaluate") else []
        answer = CliRunner().invoke(app, [*arguments, *alone], catch_exceptions=False)
        assert answer.exit_code == 0, f"{command}\n{answer.output}"
        assert comparable(answer.stdout, command) == comparable(output, command), command
    done = [command.split()[1] for command in commands]
    assert done == ["init", "check", "prepare", "train", "predict", "evaluate", "report", "predict"]
    assert any(told in command for command in commands for told in SHORTER)
    assert Path("runs/first/scores.csv").is_file()
    assert Path("runs/first/scores.json").is_file()
    assert Path("runs/first/report.html").is_file()


def test_files_of_the_example_are_those_of_the_page(tmp_path: Path) -> None:
    hospital_export(tmp_path)
    names = re.findall(r"\bPAT\w+(?:\.[\w.]+\w)?", PAGE.split("```")[1])
    assert len(names) >= 4
    found = {path.name for path in tmp_path.rglob("*")}
    assert set(names) <= found
