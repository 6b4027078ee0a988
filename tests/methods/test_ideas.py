"""The groups of the lists of methods."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from semiseg.cli import app
from semiseg.methods import ideas
from semiseg.methods.base import registry
from semiseg.methods.ideas import IDEAS, OTHER, grouped, idea_of


def test_every_method_stands_in_one_group_without_its_variants() -> None:
    known = registry()
    assert {name for name in known if idea_of(name) == OTHER} == set(), "add it to an idea in methods/ideas.py"
    listed = [name for idea in IDEAS for name in idea.methods]
    assert len(listed) == len(set(listed))
    assert all(not known[name].options for name in listed if name in known)
    assert set(listed) - known.keys() <= {"fussnet", "cpcl", "caml"}


def test_variants_are_where_their_methods_are() -> None:
    assert idea_of("mcnet") == idea_of("mcnet_plus")
    assert {name: idea.name for idea, names in grouped(registry()).items() for name in names} == {
        name: idea_of(name).name for name in registry()
    }


def overview() -> list[str]:
    answer = CliRunner().invoke(app, ["methods"], catch_exceptions=False)
    assert answer.exit_code == 0
    return answer.output.splitlines()


def test_the_overview_is_grouped_and_fits_a_terminal() -> None:
    lines = overview()
    assert max(map(len, lines)) <= 80
    heads = [line.partition(":")[0].lower() for line in lines if line[:1].isupper() and ": " in line]
    assert heads == [idea.name for idea in IDEAS]
    named = " ".join(lines).replace(",", " ").split()
    assert all(named.count(name) == 1 for name in registry() if "_" in name or "-" in name)
    starts = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    assert sorted(starts) == sorted(name for name, entry in registry().items() if not entry.options)


def test_a_method_without_a_group_is_listed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    left = tuple(idea for idea in IDEAS if idea.name != "mixing")
    monkeypatch.setattr(ideas, "IDEAS", left)
    lines = overview()
    place = lines.index("Others: In no group yet.")
    assert [line.split()[0] for line in lines[place:] if line.startswith("  ") and line[2] != " "] == ["bcp", "cml"]
