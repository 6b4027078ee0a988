"""The frame of all importers: finding, resuming, processes, wrong input, and what people read."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import semiseg
from downloads import la_download, la_h5
from semiseg.cli import app
from semiseg.conversion.papers import base
from semiseg.conversion.papers.official import official_lists
from semiseg.conversion.papers.run import import_dataset
from semiseg.datasets.dataset import open_dataset
from semiseg.datasets.splits import load_split
from semiseg.errors import InputError
from semiseg.scans.readers import read_image

CASES = official_lists("la")["train"][:5]


def command(*arguments: object) -> tuple[int, str]:
    answer = CliRunner().invoke(app, ["import", *map(str, arguments)])
    if isinstance(answer.exception, InputError):
        return 2, str(answer.exception)
    return answer.exit_code, answer.output


@pytest.mark.parametrize("name", sorted(base.importers()))
def test_every_importer_says_what_it_needs(name: str) -> None:
    chosen = base.importer(name)
    assert chosen.name == name
    assert "http" in chosen.where
    code, page = command(name)
    assert code == 0
    assert chosen.where in page
    for layout in chosen.layouts:
        assert layout.expected in page
    for option, field in chosen.options.model_fields.items():
        assert f"{option} =" in page
        assert field.description
    assert chosen.configure({}) == chosen.options()


def test_list() -> None:
    listed = command()
    assert listed == command("--list")
    assert all(f"{name}: " in listed[1] for name in base.importers())


def test_command(tmp_path: Path) -> None:
    source = la_h5(tmp_path / "src", CASES)
    code, text = command("la", source, "-o", tmp_path / "data", "--set", "seed=3", "--workers", "1")
    assert code == 0, text
    assert "5 cases" in text
    assert "splits/l4.json: 4 labelled, 1 unlabelled" in text
    assert f"semiseg check {tmp_path / 'data'}" in text
    assert json.loads((tmp_path / "data" / "dataset.json").read_text())["imported"]["options"]["seed"] == 3


def test_written_splits_can_be_trained_on(tmp_path: Path) -> None:
    done = semiseg.import_dataset("la", la_h5(tmp_path / "src", CASES), tmp_path / "data", workers=1)
    dataset = open_dataset(done.root)
    for name, split in done.splits.items():
        assert load_split(done.root / "splits" / f"{name}.json", dataset) == split
    assert done.splits["l4_honest"].labelled == tuple(sorted(CASES[:3]))


def test_a_killed_import_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = la_download(tmp_path / "src", CASES)
    whole = import_dataset("la", source, tmp_path / "whole", workers=1).root
    chosen = base.importer("la")
    download = next(layout for layout in chosen.layouts if layout.name == "download")
    converted: list[str] = []

    def convert(item: base.Item, options: object) -> base.Scan:
        if len(converted) == 3:
            converted.append("killed")
            raise KeyboardInterrupt
        converted.append(item.case)
        return download.convert(item, options)

    monkeypatch.setitem(base._REGISTRY, "la", replace(chosen, layouts=(replace(download, convert=convert),)))
    with pytest.raises(KeyboardInterrupt):
        import_dataset("la", source, tmp_path / "data", workers=1)
    assert not (tmp_path / "data" / "dataset.json").exists()
    done = import_dataset("la", source, tmp_path / "data", workers=1)
    assert sorted(converted) == sorted([*CASES, "killed"])
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(done.root) for path in done.root.rglob("*") if path.is_file())
    assert all((whole / path).read_bytes() == (done.root / path).read_bytes() for path in files)


def test_what_changed_is_converted_again(tmp_path: Path) -> None:
    source = la_download(tmp_path / "src", CASES[:3])
    root = semiseg.import_dataset("la", source, tmp_path / "data", workers=1).root
    images = sorted(root.glob("imagesTr/*.nii.gz"))
    before = [image.stat().st_mtime_ns for image in images]
    later = before[-1] + 10**9
    os.utime(source / "Training Set" / CASES[1] / "laendo.nrrd", ns=(later, later))
    semiseg.import_dataset("la", source, tmp_path / "data", workers=1)
    changed = [image.stat().st_mtime_ns != old for image, old in zip(images, before, strict=True)]
    assert changed == [CASES[1] in image.name for image in images]


@pytest.mark.slow
def test_processes_give_the_same_files(tmp_path: Path) -> None:
    source = la_download(tmp_path / "src", CASES[:3])
    roots = [semiseg.import_dataset("la", source, tmp_path / str(n), workers=n).root for n in (1, 2)]
    files = [{path.relative_to(root): path.read_bytes() for path in root.rglob("*.nii.gz")} for root in roots]
    assert files[0] == files[1]
    assert len(files[0]) == 6


def test_wrong_calls(tmp_path: Path) -> None:
    source = la_h5(tmp_path / "src", CASES[:1])
    for arguments, words in (
        (("acdx", source, "-o", tmp_path / "x"), "did you mean 'acdc'|known: "),
        (("la", source), "add -o DATA"),
        (("la", tmp_path / "none", "-o", tmp_path / "x"), "expected the folder of"),
        (("la", tmp_path / "la.zip", "-o", tmp_path / "x"), "extract the archive"),
        (("la", source, "-o", tmp_path / "x", "--set", "sede=1"), "did you mean 'seed'"),
        (("la", source, "-o", tmp_path / "x", "--set", "seed=-1"), "seed: .*greater than or equal to 0"),
        (("la", source, "-o", tmp_path / "x", "--set", "seed"), "expected NAME=VALUE, such as seed=1"),
        (("la", source, "-o", source), "expected a new or empty folder"),
    ):
        code, text = command(*arguments)
        assert code == 2, text
        assert re.search(words, text), text
    assert not (tmp_path / "x").exists()


def test_neither_layout(tmp_path: Path) -> None:
    (tmp_path / "src" / "photos").mkdir(parents=True)
    (tmp_path / "src" / "notes.txt").write_text("x")
    with pytest.raises(InputError) as error:
        semiseg.import_dataset("la", tmp_path / "src", tmp_path / "data")
    assert len(error.value.problems) == 1
    for words in ("CASE/mri_norm2.h5", "CASE/lgemri.nrrd", "found notes.txt, photos/", "https://"):
        assert words in str(error.value)
    assert not (tmp_path / "data").exists()


def test_one_case_in_two_places(tmp_path: Path) -> None:
    la_h5(tmp_path / "src" / "a", CASES[:1])
    la_h5(tmp_path / "src" / "b", CASES[:1])
    with pytest.raises(InputError, match="expected one scan of case"):
        semiseg.import_dataset("la", tmp_path / "src", tmp_path / "data")


def test_other_settings_need_another_folder(tmp_path: Path) -> None:
    source = la_h5(tmp_path / "src", CASES[:1])
    semiseg.import_dataset("la", source, tmp_path / "data")
    with pytest.raises(InputError, match=r'"seed": 1.*choose another output folder'):
        semiseg.import_dataset("la", source, tmp_path / "data", options={"seed": 1})


def scan(**changes: object) -> base.Scan:
    good = base.Scan(np.ones((1, 4, 4, 4), np.float32), np.ones((4, 4, 4), np.uint8), np.eye(4))
    return replace(good, **changes)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (scan(image=np.ones((2, 4, 4, 4))), r"expected 1 channel\(s\) of a 3D scan"),
        (scan(image=np.ones((1, 4, 4))), r"expected 1 channel\(s\) of a 3D scan"),
        (scan(label=np.ones((4, 4, 3))), r"expected a label of shape \[4, 4, 4\]"),
        (scan(image=np.full((1, 4, 4, 4), np.nan)), "expected finite intensities"),
        (scan(label=np.full((4, 4, 4), 0.5)), "expected the label values 0 to 1, came 0.5"),
        (scan(label=np.full((4, 4, 4), 2)), "expected the label values 0 to 1, came 2"),
    ],
)
def test_scans_that_cannot_be_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: base.Scan, words: str):
    chosen = base.importer("la")
    layouts = tuple(replace(layout, convert=lambda item, options: made) for layout in chosen.layouts)
    monkeypatch.setitem(base._REGISTRY, "la", replace(chosen, layouts=layouts))
    source = la_h5(tmp_path / "src", CASES[:2])
    with pytest.raises(InputError, match=words) as error:
        import_dataset("la", source, tmp_path / "data", workers=1)
    assert len(error.value.problems) == 2


def test_integers_stay_integers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = base.importer("la")
    values = np.arange(64, dtype=np.int32).reshape(1, 4, 4, 4)
    layouts = tuple(
        replace(layout, convert=lambda item, options: scan(image=values, label=None)) for layout in chosen.layouts
    )
    monkeypatch.setitem(base._REGISTRY, "la", replace(chosen, layouts=layouts))
    root = import_dataset("la", la_h5(tmp_path / "src", CASES[:1]), tmp_path / "data", workers=1).root
    image = read_image([root / "imagesTr" / f"{CASES[0]}_0000.nii.gz"])
    assert image.array.dtype == np.int16
    np.testing.assert_array_equal(image.array, values)
    assert not (root / "labelsTr").exists()


def test_an_importer_is_registered_once() -> None:
    with pytest.raises(ValueError, match="two importers"):
        base.register(base.importer("la"))
