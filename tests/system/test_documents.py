"""Documents from elsewhere: whatever is in them, they make a valid object or an `InputError`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semiseg.comparison.grid import load_grid
from semiseg.datasets.dataset import open_dataset
from semiseg.datasets.description import inside, read_description
from semiseg.datasets.splits import load_split
from semiseg.errors import InputError, one_line, shown
from semiseg.settings.load import load_config
from semiseg.settings.run import RunConfig
from semiseg.system.documents import parse_json, parse_yaml, read_json
from semiseg.validation import read_mapping
from tiny import tiny_dataset

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner))
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("documents") / "data", cases=3, labelled=2, shape=(6, 5, 4))


def _check(error: InputError) -> None:
    assert error.problems
    assert all(problem and problem.isprintable() for problem in error.problems)


def _changed(document: dict[str, Any], changes: dict[str, Any]) -> str:
    return json.dumps({**document, **changes})


def _entries(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names) | st.text(max_size=6), VALUES, min_size=1, max_size=3)


@QUICK
@given(changes=_entries("name", "channel_names", "labels", "file_ending", "spacing", "dataset"))
def test_dataset_json(tmp_path: Path, changes: dict[str, Any]) -> None:
    good = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(_changed(good, changes))
    try:
        found = read_description(tmp_path)
    except InputError as error:
        _check(error)
        return
    assert len(found.class_names) >= 2
    assert len(set(found.channels)) >= 1
    for images, label in (found.listing or {}).values():
        assert all(inside(name) for name in (*images, *([label] if label else [])))


@QUICK
@given(changes=_entries("labelled", "unlabelled", "validation", "test", "note"))
def test_split_files(data: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "split.json").write_text(_changed({"labelled": ["case_000"]}, changes))
    dataset = open_dataset(data)
    try:
        roles = load_split(tmp_path / "split.json", dataset).roles
    except InputError as error:
        _check(error)
        return
    cases = [case for role in roles.values() for case in role]
    assert len(cases) == len(set(cases))
    assert set(cases) <= dataset.cases.keys()


@QUICK
@given(changes=_entries(*RunConfig.model_fields, "preset"), as_yaml=st.booleans())
def test_settings(tmp_path: Path, changes: dict[str, Any], as_yaml: bool) -> None:
    text = _changed({"data": "scans", "method": "cps"}, changes)
    text = yaml.safe_dump(json.loads(text)) if as_yaml else text
    (tmp_path / "config.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        config = load_config(tmp_path / "config.yaml", {})
    except InputError as error:
        _check(error)
        return
    (tmp_path / "again.yaml").write_text(config.to_yaml())
    assert load_config(tmp_path / "again.yaml", {}) == config


@QUICK
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    try:
        assert isinstance(read_mapping(tmp_path / "a.yaml"), dict)
    except InputError as error:
        _check(error)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "a: &a {b: *a}",
        "a: &a [*a]",
        "a: " + "[" * 5000,
        "a: " + "{b: " * 200 + "c" + "}" * 200,
        "a: " + "9" * 5000,
        "a: !!int ''",
        "a: !!bool maybe",
        "a: !!timestamp x",
        "a: 2001-99-99",
        "a: !!python/object/apply:os.system ['true']",
        "a: !!python/name:os.system",
        "<<: 3",
        "? [a, b]\n: c",
        "? {a: b}\n: c",
        "1: 2",
        "a: b\n" * (1 << 19),
    ],
)
def test_yaml_that_no_settings_need_is_refused_at_once(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    began = time.process_time()
    with pytest.raises(InputError) as caught:
        read_mapping(tmp_path / "a.yaml")
    (problem,) = caught.value.problems
    assert problem.startswith(str(tmp_path / "a.yaml"))
    assert time.process_time() - began < 10


def test_a_grid_without_end_is_refused(tmp_path: Path) -> None:
    for line in (f"seeds: 1{'0' * 400}", "seeds: 1000000000", "subsets: 1000000000"):
        (tmp_path / "grid.yaml").write_text(f"data: data\nlabelled: [4]\n{line}\n")
        with pytest.raises(InputError, match="1000"):
            load_grid(tmp_path / "grid.yaml", {})


def test_json_that_is_too_deep_or_no_file_is_refused(tmp_path: Path) -> None:
    for text in ("[" * 200 + "]" * 200, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000):
        with pytest.raises(ValueError, match=r"nested too deeply|Expecting"):
            parse_json(text)
    os.mkfifo(tmp_path / "pipe.json")
    for read in (read_mapping, lambda path: read_json(path, "settings")):
        with pytest.raises(InputError, match="this is no file"):
            read(tmp_path / "pipe.json")


def test_plain_documents_are_as_they_were() -> None:
    for value in ({"a": [1, 2.5, None, True, "x"], "b": {"c": [[1], [2]]}}, [], 3, None):
        assert parse_yaml(yaml.safe_dump(value)) == value
        assert parse_json(json.dumps(value)) == value
    assert parse_yaml("a: &x [1, 2]\nb: *x\n") == {"a": [1, 2], "b": [1, 2]}


def test_messages_steer_no_terminal_and_have_an_end() -> None:
    assert one_line("a\x1b[31m\nb\ud800é 日") == "a\\x1b[31m\\nb\\ud800é 日"
    assert InputError("x\ny").problems == ("x\\ny",)
    long = one_line("a" * 100_000 + "remedy")
    assert len(long) < 2100
    assert long.endswith("remedy")
    assert shown("x" * 1000).endswith("...")
    assert shown(int("f" * 5000, 16)) == "a int too long to be shown"
