"""The pages of the documentation: links lead somewhere, and commands have the words that they use."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel
from typer.main import get_command

from scripts import ROOT
from semiseg.cli import app
from semiseg.settings.run import RunConfig

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md"])
COMMANDS = get_command(app).commands
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(path: Path) -> set[str]:
    """Anchors of the headings as Markdown makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower().strip()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name) if name else page
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), target


def test_every_page_can_be_found() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = yaml.safe_load(text)["nav"]
    listed = {path for entry in nav for path in entry.values()}
    pages = {str(path.relative_to(DOCS)) for path in DOCS.glob("*.md")} | {"methods/index.md"}
    assert listed == pages


def test_files_of_the_makefile_are_there() -> None:
    """A moved folder would leave its tests out without a word."""
    named = re.findall(r"\btests/[\w/.]+", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert len(named) >= 5
    assert [name for name in named if not (ROOT / name).exists()] == []


def commands(page: Path) -> list[list[str]]:
    """Words of the commands in the code boxes of a page, and of those in running text."""
    text = page.read_text(encoding="utf-8")
    boxes = "\n".join(FENCE.findall(text)).replace("\\\n", " ")
    lines = [re.sub(r"\s#.*", "", line).removeprefix("$ ").strip() for line in boxes.splitlines()]
    lines += re.findall(r"`(semiseg [^`]+)`", text.replace("\n", " "))
    found = [re.sub(r"^.*?\bsemiseg ", "semiseg ", line) for line in lines if re.match(r"(\S+/)?semiseg ", line)]
    return [words for line in found if (words := _split(line)) and len(words) > 1]


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # a sentence with an apostrophe
        return []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_and_their_options_exist(page: Path) -> None:
    for _, verb, *words in commands(page):
        if verb.startswith("-") or not verb.islower():
            continue
        assert verb in COMMANDS, verb
        known = {name for parameter in COMMANDS[verb].params for name in (*parameter.opts, *parameter.secondary_opts)}
        for word in words:
            if word.startswith("-") and not re.fullmatch(r"-\d.*", word):
                assert word.split("=")[0] in known | {"--help"}, f"{verb} {word}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_settings_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"--set[ =]'?\"?([a-z_][\w.]*)=", text):
        assert _exists(RunConfig, name.split(".")), name


def _exists(model: type[BaseModel], path: list[str]) -> bool:
    head, *rest = path
    if head not in model.model_fields:
        return False
    kinds = model.model_fields[head].annotation
    groups = [kind for kind in (kinds, *getattr(kinds, "__args__", ())) if isinstance(kind, type)]
    group = next((kind for kind in groups if issubclass(kind, BaseModel)), None)
    return not rest or group is None or head == "options" or _exists(group, rest)
