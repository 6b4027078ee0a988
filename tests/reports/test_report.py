"""The report of real runs: everything is in it, nothing leaks out of it, and what is gone is said."""

from __future__ import annotations

import csv
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import semiseg
from chromium import EXECUTABLE, Page
from scored_runs import HOSTILE_CASE, HOSTILE_CLASS, hostile_dataset, scored_run
from semiseg.errors import InputError
from semiseg.evaluation.score_files import load_scores
from semiseg.metrics.statistics import mean_interval
from semiseg.reports import cases as module
from semiseg.reports.records import key_of, read_records
from semiseg.reports.training import pseudo_labels
from tiny import write_nifti

ALLOWED = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "header",
    "main",
    "section",
    "nav",
    "footer",
    "article",
} | {
    *("h1", "h2", "h3", "h4", "p", "a", "b", "ul", "li", "dl", "dt", "dd", "div", "span", "code", "pre", "details"),
    *("summary", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "label", "input"),
    *("output", "script", "svg", "g", "path", "image", "rect", "line", "polyline", "circle", "text", "title"),
}


class Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def words_of_policy(elements: Elements) -> str:
    """Content of the policy's meta element."""
    return next(
        str(given["content"]) for _, given in elements.found if given.get("http-equiv") == "Content-Security-Policy"
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A supervised run and a semi-supervised one with class weights, scored on the same four cases."""
    root = tmp_path_factory.mktemp("report")
    data = hostile_dataset(root / "data")
    for folder, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (data / folder / f"case_000{ending}").rename(data / folder / f"{HOSTILE_CASE}{ending}")
    ids = [HOSTILE_CASE, *(f"case_{index:03d}" for index in range(1, 10))]
    split = {"test": ids[:4], "validation": ids[4:5], "labelled": ids[5:8], "unlabelled": ids[8:]}
    (root / "split.json").write_text(json.dumps(split))
    roles = {"split": root / "split.json", "labelled": None, "validation": 0, "test": 0}
    return [scored_run(data, root / name, name, **roles) for name in ("supervised", "micd")]


@pytest.fixture(scope="module")
def page(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    began = time.process_time()
    written = semiseg.report(*runs, output=tmp_path_factory.mktemp("page") / "report.html")
    assert time.process_time() - began < 20
    return written


def test_nothing_in_a_name_becomes_markup(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    elements = Elements(html)
    assert {tag for tag, _ in elements.found} <= ALLOWED
    for tag, attributes in elements.found:
        assert not any(name.startswith("on") or name in ("style", "src") for name in attributes), (tag, attributes)
        assert str(attributes.get("href") or "#").startswith(("#", "data:image/jpeg"))
    words = "".join(elements.words)
    assert HOSTILE_CLASS in words
    assert HOSTILE_CASE in words
    assert "<img" not in html
    assert "default-src 'none'; img-src data:; style-src 'sha256-" in words_of_policy(elements)


def test_every_part_is_there(page: Path, runs: list[Path]) -> None:
    html = page.read_text(encoding="utf-8")
    words = " ".join(Elements(html).words)
    for expected in (
        "loss: total",
        "validation: mean Dice",
        "Dice per class on validation scans",
        "Worst of 4",
        "Median of 4",
        "Best of 4",
        "class_weight_a",
        "3 labelled scans for training + 1 for selection",
        "labelled scans (and 1 more that chose its weights)",
        "honest",
        f"semiseg train --config {runs[0]}/config.yaml",
        "test labels opened",
    ):
        assert expected in words, expected
    assert html.count('class="case"') == 3
    assert len(html) < 5_000_000


def test_numbers_can_be_traced(page: Path, runs: list[Path]) -> None:
    html = page.read_text(encoding="utf-8")
    rows = re.findall(r"<tr><td>A</td>(.*?)</tr>", html[html.index('id="numbers"') :])
    lines = (runs[0] / "scores.csv").read_text().splitlines()
    assert len(rows) == len(lines) - 1
    for row in rows:
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
        (written,) = csv.reader([lines[int(cells[0]) - 1]])
        expected = float(written[3])
        assert unescape(cells[1]) == written[0]
        assert unescape(cells[2]) == written[1]
        assert cells[3] == ("-" if np.isnan(expected) else f"{100 * expected:.2f}")


def test_every_part_names_its_file_and_its_command(page: Path) -> None:
    parts = page.read_text(encoding="utf-8").split('<section id="')[1:]
    bodies = {part.partition('"')[0]: part for part in parts}
    wanted = {
        "result": ("scores.json", "semiseg evaluate"),
        **dict.fromkeys(("classes", "cases", "failures"), ("scores.csv", "semiseg evaluate")),
        **dict.fromkeys(("training", "validation", "pseudo-labels", "observed"), ("log.jsonl", "semiseg train")),
    }
    for name, (file, command) in wanted.items():
        told = re.findall(r'<p class="source">(.*?)</p>', bodies[name])
        assert any(file in line and command in line for line in told), name
    assert "semiseg predict" in bodies["cases"]


def test_a_run_that_is_not_scored_yet(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[1], tmp_path / "young")
    for name in ("scores.csv", "scores.json"):
        (tmp_path / "young" / name).unlink()
    html = semiseg.report(tmp_path / "young").read_text(encoding="utf-8")
    assert (tmp_path / "young" / "report.html").is_file()
    assert "It has not been scored yet" in html
    assert "loss: total" in html
    assert 'id="cases"' not in html


def test_intervals_are_of_means_over_patients(runs: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    facts = json.loads((run / "scores.json").read_text())
    cases = sorted(facts["provenance"]["patients"])
    facts["provenance"]["patients"] = {case: cases[i - i % 2] for i, case in enumerate(cases)}
    (run / "scores.json").write_text(json.dumps(facts))
    html = semiseg.report(run).read_text(encoding="utf-8")
    dice = load_scores(run).case_means("dice")
    found = mean_interval(np.array([(dice[a] + dice[b]) / 2 for a, b in (cases[:2], cases[2:])]))
    assert "On 4 other scans of 2 patients its mean Dice" in re.sub(r"<[^>]*>", "", html)
    assert f"(95 % interval {100 * found.low:.1f} to {100 * found.high:.1f})" in html
    assert "does not say whose scans" not in html
    del facts["provenance"]["patients"]
    (run / "scores.json").write_text(json.dumps(facts))
    html = semiseg.report(run).read_text(encoding="utf-8")
    assert "Run A does not say whose scans it was scored on: each counts as a patient of its own." in html
    assert "On 4 other scans its mean Dice" in re.sub(r"<[^>]*>", "", html)


def test_changed_files_are_not_shown(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "changed")
    victim = next((tmp_path / "changed" / "predictions").glob("case_001*"))
    write_nifti(victim, np.zeros((20, 18, 16), np.uint8))
    html = semiseg.report(tmp_path / "changed").read_text(encoding="utf-8")
    assert "its predictions have changed since they were scored" in html
    assert "<image" not in html
    shutil.rmtree(tmp_path / "changed" / "predictions")
    html = semiseg.report(tmp_path / "changed").read_text(encoding="utf-8")
    assert "not in the run folder" in html


def test_stamps_are_a_banner(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "stamped")
    facts = json.loads((tmp_path / "stamped" / "provenance.json").read_text())
    (tmp_path / "stamped" / "provenance.json").write_text(json.dumps({**facts, "stamps": ["test-selected"]}))
    html = semiseg.report(tmp_path / "stamped", output=tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Not an honest result: test-selected." in html


def test_pseudo_label_quality_needs_labels_of_the_budget(runs: list[Path], tmp_path: Path) -> None:
    (record,) = read_records(runs[1:])
    assert len(pseudo_labels([record]).charts) == 1
    on_test = record.config.model_copy(update={"protocol": "paper", "select_on": "test"})
    told = pseudo_labels([replace(record, config=on_test)])
    assert told.charts == ()
    assert "Labels of test scans are not used for this" in told.notes[0][1]


def test_all_problems_at_once(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "broken")
    (tmp_path / "broken" / "provenance.json").write_text("[")
    with pytest.raises(InputError) as error:
        semiseg.report(runs[0], tmp_path / "nothing", tmp_path / "broken", runs[0], output=tmp_path / "x.html")
    assert len(error.value.problems) == 3
    assert "given twice" in error.value.problems[0]
    assert "no run folder" in error.value.problems[1]
    assert "provenance.json: expected the provenance that train wrote" in error.value.problems[2]
    assert not (tmp_path / "x.html").exists()


def test_keys() -> None:
    assert [key_of(index) for index in (0, 25, 26, 27, 701, 702)] == ["A", "Z", "AA", "AB", "ZZ", "AAA"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    if EXECUTABLE is None:
        pytest.skip("Chromium is not installed")
    with Page() as found:
        yield found


@pytest.mark.slow
def test_in_a_browser(page: Path, browser: Page, tmp_path: Path) -> None:
    browser.open(page)
    assert browser.complaints == []
    assert browser.evaluate("document.querySelectorAll('img, [onerror], [onmouseover]').length") == 0
    first = "document.querySelector('.plane')"
    outlines = f"[...{first}.querySelectorAll('path')].map(path => path.getAttribute('d')).join()"
    shown = f"{first}.querySelector('output').textContent, {first}.querySelector('image').href.baseVal"
    state = f"[{shown}, {outlines}]"
    before = browser.evaluate(state)
    browser.evaluate(f"{first}.querySelector('input').focus()")
    browser.press("ArrowRight")
    after = browser.evaluate(state)
    assert all(was != now for was, now in zip(before, after, strict=True))
    browser.press("ArrowLeft")
    assert browser.evaluate(state) == before
    drawn = "document.querySelector('.panel image').getBoundingClientRect().width"
    assert browser.evaluate(drawn) > 100
    for width in (1280, 400):
        browser.resize(width)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        browser.screenshot(tmp_path / f"{width}.png")
        assert (tmp_path / f"{width}.png").stat().st_size > 20_000
    assert browser.complaints == []


@pytest.mark.slow
def test_outlines_can_be_switched_by_the_keyboard(page: Path, browser: Page) -> None:
    browser.open(page)
    shown = "getComputedStyle(document.querySelector('.panel .truth')).display"
    assert browser.evaluate(shown) != "none"
    browser.evaluate("document.querySelector('[data-layer=truth]').focus()")
    browser.press(" ")
    assert browser.evaluate(shown) == "none"
    assert browser.evaluate("getComputedStyle(document.querySelector('.panel .prediction')).display") != "none"


@pytest.mark.slow
def test_twenty_large_cases_fit(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of a size that 28 slices per plane would be too much for."""
    rng = np.random.default_rng(0)
    shape = (160, 150, 90)
    truth = np.zeros(shape, np.uint8)
    truth[20:140, 20:130, 10:80] = rng.integers(1, 3, (12, 11, 7)).repeat(10, 0).repeat(10, 1).repeat(10, 2)
    image = rng.normal(size=shape).astype(np.float32)
    cut = module.cut_stacks

    def large(_: object, __: object, predictions: list[np.ndarray], affine: np.ndarray, *, most: int) -> object:
        return cut(image, truth, [truth] * len(predictions), affine, most=most)

    monkeypatch.setattr(module, "cut_stacks", large)
    html = semiseg.report(*runs, output=tmp_path / "large.html").read_bytes()
    assert len(html) < 5_000_000
    assert html.count(b'"n":') > 9
