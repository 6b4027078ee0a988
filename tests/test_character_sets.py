"""Terminals and files of few signs: what a command prints never ends it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from semiseg.cli import main
from semiseg.cli.signs import encodable
from tiny import tiny_dataset

SETS = ("cp1252", "latin-1", "ascii", "cp437", "utf-8")


@pytest.mark.parametrize("charset", SETS)
@pytest.mark.parametrize("command", ["evaluate", "check", "compare", "methods", "method", "presets", "--help"])
def test_commands_end_well_in_every_character_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, charset: str, command: str
) -> None:
    root = tiny_dataset(tmp_path / "data", cases=5, labelled=4, shape=(8, 8, 8))
    words = {
        "evaluate": ("evaluate", root / "labelsTr", root / "labelsTr", "-o", tmp_path / "scores"),
        "check": ("check", root),
        "compare": ("compare", root, "-m", "micd", "-n", "2", "--steps", "2", "-o", tmp_path / "c", "--dry-run"),
        "method": ("methods", "micd"),
    }.get(command, (command,))
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=charset) for _ in range(2)]
    monkeypatch.setattr(sys, "argv", ["semiseg", *map(str, words)])
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None), streams[1].buffer
    streams[0].flush()
    assert streams[0].buffer.getvalue()  # type: ignore[attr-defined]


def test_a_table_is_drawn_in_the_signs_that_there_are() -> None:
    for charset, expected in (
        ("cp1252", "--- 3 ± 1 · é ?"),
        ("ascii", "--- 3 +/- 1 - e ?"),
        ("utf-8", "─── 3 ± 1 · é ж"),
    ):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=charset)
        encodable(stream)
        stream.write("─── 3 ± 1 · é ж")
        stream.flush()
        assert stream.buffer.getvalue().decode(charset) == expected  # type: ignore[attr-defined]


def test_names_of_files_that_are_no_text_are_printed() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    encodable(stream)
    stream.write("a\udce9b")
    stream.flush()
    assert stream.buffer.getvalue() == b"a?b"  # type: ignore[attr-defined]


def test_the_command_itself_ends_well(tmp_path: Path) -> None:
    root = tiny_dataset(tmp_path / "data", cases=3, labelled=3, shape=(8, 8, 8))
    command = [
        sys.executable,
        "-m",
        "semiseg.cli",
        "evaluate",
        root / "labelsTr",
        root / "labelsTr",
        "-o",
        tmp_path / "o",
    ]
    answer = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "cp1252"}, capture_output=True, check=False)
    assert (answer.returncode, b"Traceback" in answer.stderr) == (0, False), answer.stderr
    assert "±" in answer.stdout.decode("cp1252")
