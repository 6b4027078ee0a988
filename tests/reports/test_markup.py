"""Nothing that is put into a page can become a tag, an attribute or the end of a script."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiseg.reports.markup import inert, join, tag, text


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


@given(st.text(st.sampled_from("<>\"'&/=! -abc\\")), st.text(st.sampled_from("<>\"'&/= ab")))
def test_any_string_is_text(content: str, value: str) -> None:
    found = Read(tag("p", content, title=value))
    assert found.tags == [("p", {"title": value})]
    assert found.said == content


def test_markup_is_not_escaped_twice() -> None:
    assert tag("p", tag("b", "a & b"), " <") == "<p><b>a &amp; b</b> &lt;</p>"
    assert join(["<", tag("br")]) == "&lt;<br>"


def test_attributes() -> None:
    assert (
        tag("i", class_="x", data_run=1, hidden=True, title=None, checked=False)
        == '<i class="x" data-run="1" hidden></i>'
    )
    assert tag("i", x=1.0, y=0.126) == '<i x="1" y="0.13"></i>'


@pytest.mark.parametrize("bad", ["\x00", "\x1b[31m", "\u202e", "\x85"])
def test_control_characters_are_replaced(bad: str) -> None:
    assert "\ufffd" in text(f"a{bad}b")
    assert bad[0] not in text(f"a{bad}b")


@given(HARMLESS)
def test_json_in_a_script_stays_json(content: str) -> None:
    found = inert(json.dumps([content, "</script><!--"]))
    assert "<" not in found
    assert json.loads(found) == [content, "</script><!--"]
