"""Nothing that is put into a page can become a tag, an attribute or the end of a script."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

import semiseg.reports
from semiseg.reports.page import environment


def rendered(template: str, **values: object) -> str:
    return environment().from_string(template).render(**values)


class Read(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said += data


HARMLESS = st.text(st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters="\u2028\u2029"))


@given(st.text(st.sampled_from("<>\"'&/=! -abc\\{}%")), st.text(st.sampled_from("<>\"'&/= ab{}%")))
def test_any_string_is_text(content: str, value: str) -> None:
    found = Read(rendered('<p title="{{ value }}">{{ content }}</p>', content=content, value=value))
    assert found.tags == [("p", {"title": value})]
    assert found.said == content


def test_every_template_escapes() -> None:
    """No template switches escaping off, and none takes a string for markup."""
    templates = [path for path in files(semiseg.reports).joinpath("templates").iterdir() if path.name.endswith(".html")]
    assert {Path(path.name).stem for path in templates} >= {"page", "macros", "cases"}
    for path in templates:
        source = path.read_text(encoding="utf-8")
        assert "safe" not in source, path.name
        assert "autoescape" not in source, path.name


def test_joined_names_are_escaped_once() -> None:
    assert rendered("{{ names|join(', ') }}", names=["a & b", "<i>"]) == "a &amp; b, &lt;i&gt;"


def test_numbers_are_short() -> None:
    assert rendered('<i x="{{ x }}" y="{{ y }}" z="{{ z }}">', x=1.0, y=0.126, z=3) == '<i x="1" y="0.13" z="3">'


def test_a_missing_fact_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        rendered("{{ nothing }}")


@pytest.mark.parametrize("bad", ["\x00", "\x1b[31m", "\u202e", "\x85", "\ud800"])
def test_control_characters_are_replaced(bad: str) -> None:
    found = rendered("{{ text }}", text=f"a{bad}b")
    assert "\ufffd" in found
    assert bad[0] not in found


@given(HARMLESS)
def test_json_in_a_script_stays_json(content: str) -> None:
    found = rendered("{{ data|tojson }}", data=[content, "</script><!--"])
    assert "<" not in found
    assert json.loads(found) == [content, "</script><!--"]
