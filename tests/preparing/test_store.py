"""A store whose files were damaged or exchanged after it was opened."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import semiseg
from semiseg.errors import InputError
from semiseg.preparing.store import Store, open_store
from tiny import tiny_dataset


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return semiseg.prepare(tiny_dataset(tmp_path / "data", cases=2, labelled=2, shape=(9, 8, 7)), workers=1)


@pytest.mark.parametrize("array", [np.zeros((1, 9, 8, 6), np.float16), np.zeros((1, 9, 8, 7), np.float32)])
def test_arrays_of_another_shape_or_type_are_refused(store: Store, array: np.ndarray) -> None:
    np.save(store.root / "store" / "case_000.image.npy", array)
    np.save(store.root / "store" / "case_000.label.npy", array[0])
    for read in (store.image, store.label):
        with pytest.raises(InputError, match=r"npy: expected \w+ \[.*\], came .*: delete it and run semiseg prepare"):
            read("case_000")


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY\x01\x00", b"no array", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f2(   \n"]
)
def test_damaged_arrays_are_refused(store: Store, content: bytes) -> None:
    (store.root / "store" / "case_000.image.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read any more .*semiseg prepare"):
        store.image("case_000")


@pytest.mark.parametrize("cases", [None, [], {"../../elsewhere": {}}, {"a/b": {}}, {"a\nb": {}}])
def test_the_list_of_cases_names_cases(store: Store, cases: object) -> None:
    path = store.root / "fingerprint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "cases": cases}))
    with pytest.raises(InputError, match=r"fingerprint\.json: cases: expected scans by case id"):
        open_store(store.root)


def test_a_fingerprint_of_other_cases_is_made_anew(store: Store) -> None:
    path = store.root / "fingerprint.json"
    good = json.loads(path.read_text())
    path.write_text(json.dumps({**good, "cases": {"other": next(iter(good["cases"].values()))}}))
    assert semiseg.prepare(store.root.parent, workers=1).cases == store.cases
    assert json.loads(path.read_text()) == good
