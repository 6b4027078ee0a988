"""Preparing with others at the same time, with files that vanish or change on the way, and whatever the clock says."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semiseg.datasets.dataset import open_dataset
from semiseg.errors import InputError
from semiseg.preparing import cases
from semiseg.preparing import prepare as module
from semiseg.preparing.prepare import prepare
from semiseg.preparing.store import CaseMeta
from tiny import tiny_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tiny_dataset(tmp_path / "data", cases=5, labelled=3)


def _content(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_two_at_once_do_the_work_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(open_dataset(root), tmp_path / "alone", workers=1)
    worked: list[str] = []
    real = cases._write

    def write(files: cases.CaseFiles, *more: object) -> CaseMeta:
        worked.append(files.case)
        return real(files, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(cases, "_write", write)
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(prepare(open_dataset(root), tmp_path / "both", workers=1).cases))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tuple(f"case_{index:03d}" for index in range(5))] * 2
    assert sorted(worked) == list(found[0])  # type: ignore[call-overload]
    assert _content(tmp_path / "both") == _content(tmp_path / "alone")


def _before_case(monkeypatch: pytest.MonkeyPatch, case: str, action: Callable[[], object]) -> None:
    """Do something right before a case is prepared."""
    real = module.prepare_case

    def prepare_case(task: cases.CaseTask) -> str:
        if task.case.id == case:
            action()
        return real(task)

    monkeypatch.setattr(module, "prepare_case", prepare_case)


@pytest.mark.parametrize("name", ["imagesTr/case_001_0000.nii.gz", "labelsTr/case_001.nii.gz"])
def test_a_source_file_that_vanishes_is_told_and_what_is_done_is_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    prepare(open_dataset(root), tmp_path / "whole", workers=1)
    with monkeypatch.context() as patch:
        _before_case(patch, "case_001", lambda: (root / name).rename(tmp_path / "away"))
        with pytest.raises(InputError, match=rf"{name}: .*is gone: put it back"):
            prepare(open_dataset(root), workers=1)
    (tmp_path / "away").rename(root / name)
    assert (root / "prepared" / "store" / "case_000.json").is_file()
    prepare(open_dataset(root), workers=1)
    assert _content(root / "prepared") == _content(tmp_path / "whole")


def test_a_source_file_that_changes_on_the_way_is_prepared_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store notes the file as it was before it was read, so the next call sees the difference."""
    source, other = root / "imagesTr" / "case_001_0000.nii.gz", root / "imagesTr" / "case_002_0000.nii.gz"
    real = cases.read_image

    def read(paths: tuple[Path, ...], **more: object) -> object:
        if paths[0] == source:
            source.write_bytes(other.read_bytes())
        return real(paths, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(cases, "read_image", read)
        prepare(open_dataset(root), workers=1)
    prepare(open_dataset(root), workers=1)
    assert _content(root / "prepared") == _content(prepare(open_dataset(root), tmp_path / "fresh", workers=1).root)


@pytest.mark.parametrize("seconds", [1, 4_000_000_000])
def test_times_of_files_are_compared_and_never_ordered(root: Path, tmp_path: Path, seconds: int) -> None:
    """A scan that was replaced by one from long ago, or from the future, is prepared again."""
    prepare(open_dataset(root), workers=1)
    source, other = root / "imagesTr" / "case_001_0000.nii.gz", root / "imagesTr" / "case_002_0000.nii.gz"
    source.write_bytes(other.read_bytes())
    os.utime(source, (seconds, seconds))
    prepare(open_dataset(root), workers=1)
    assert _content(root / "prepared") == _content(prepare(open_dataset(root), tmp_path / "fresh", workers=1).root)


@pytest.mark.parametrize("damage", ["intensities", "channels", "class_names"])
def test_a_fingerprint_of_something_else_is_taken_anew(root: Path, tmp_path: Path, damage: str) -> None:
    output = tmp_path / "out"
    prepare(open_dataset(root), output, workers=1)
    expected, file = _content(output), output / "fingerprint.json"
    found = json.loads(file.read_text())
    found[damage] = [*found[damage], found[damage][0]]
    file.write_text(json.dumps(found))
    prepare(open_dataset(root), output, workers=1)
    assert _content(output) == expected


@pytest.mark.parametrize(
    ("place", "value"),
    [(("cases", "case_000", "spacing"), ["nan", 1.0, 1.0]), (("cases", "case_000", "spacing"), [1.0, 1e300, 1.0])]
    + [(("cases", "case_000", name), [0, 5, 5]) for name in ("shape", "cropped")]
    + [(("intensities", 0, name), 7.0) for name in ("minimum", "mean", "std")],
)
def test_a_fingerprint_with_other_numbers_is_taken_anew(
    root: Path, tmp_path: Path, place: tuple[Any, ...], value: Any
) -> None:
    output = tmp_path / "out"
    prepare(open_dataset(root), output, workers=1)
    expected, file = _content(output), output / "fingerprint.json"
    found = json.loads(file.read_text())
    part = found
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    file.write_text(json.dumps(found))
    prepare(open_dataset(root), output, workers=1)
    assert _content(output) == expected
