"""Cases that wait on the disk, decoded, between measuring and preparing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from semiseg.datasets.dataset import open_dataset
from semiseg.preparing import decoded
from semiseg.preparing.decoded import Decoded, Spool
from semiseg.preparing.prepare import prepare
from semiseg.scans.readers import Volume
from semiseg.system.shards import Shard
from tiny import tiny_dataset

STAMPS = {"imagesTr/a_0000.nii.gz": (100, 7)}


@pytest.fixture
def case() -> Decoded:
    image = np.zeros((2, 30, 24, 20), np.int16)
    image[:, 10:20, 9:15, 8:12] = 100
    image[1] += 3
    affine = np.diag([-0.1, 1 / 3, 2.0, 1.0])
    return Decoded.of(Volume(np.asfortranarray(image), affine, recorded=False), (image[0] > 50).astype(np.uint8))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.within(tmp_path / "store", ["a", "b"])


def _content(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _less_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk on which the second question finds a quarter less than the first."""
    answers = iter([4 << 30])
    monkeypatch.setattr(decoded.shutil, "disk_usage", lambda _: SimpleNamespace(free=next(answers, 3 << 30)))


@pytest.mark.parametrize("labelled", [True, False])
def test_what_is_kept_comes_back_once(spool: Spool, case: Decoded, labelled: bool) -> None:
    case = case if labelled else Decoded(case.scan, case.foreground, None)
    spool.keep("a", case, STAMPS)
    found = spool.take("a", STAMPS)
    assert found is not None
    assert found.scan.array.dtype == np.int16
    np.testing.assert_array_equal(found.scan.array, case.scan.array)
    np.testing.assert_array_equal(found.scan.affine, case.scan.affine)
    assert found.scan.recorded is False
    assert found.foreground == case.foreground
    assert (found.label is None) is not labelled
    if labelled:
        np.testing.assert_array_equal(found.label, case.label)
    assert spool.take("a", STAMPS) is None
    assert not list(spool.folder.iterdir())


def test_constant_images_have_no_threshold_and_keep_it(spool: Spool, case: Decoded) -> None:
    case = Decoded.of(Volume(np.ones_like(case.scan.array), case.scan.affine), None)
    spool.keep("a", case, STAMPS)
    found = spool.take("a", STAMPS)
    assert found is not None
    assert found.foreground.thresholds == (-np.inf, -np.inf)


@pytest.mark.parametrize("stamps", [{"imagesTr/a_0000.nii.gz": (100, 8)}, {"imagesTr/b_0000.nii.gz": (100, 7)}, {}])
def test_files_that_have_changed_since_are_not_taken(spool: Spool, case: Decoded, stamps: decoded.Stamps) -> None:
    spool.keep("a", case, STAMPS)
    assert spool.take("a", stamps) is None
    assert spool.take("a", STAMPS) is None


def test_nothing_is_taken_of_another_preparation(spool: Spool, case: Decoded) -> None:
    spool.keep("a", case, STAMPS)
    other = Spool.within(spool.folder, spool.cases)
    assert other.take("a", STAMPS) is None
    other.clear()
    assert len(list(spool.folder.iterdir())) == 1
    spool.clear()
    assert not list(spool.folder.iterdir())


def test_cases_that_are_prepared_elsewhere_are_not_kept(spool: Spool, case: Decoded) -> None:
    spool.keep("c", case, STAMPS)
    assert not list(spool.folder.iterdir())


def test_errors_of_the_disk_leave_the_case_out(spool: Spool, case: Decoded) -> None:
    spool.folder.rmdir()
    spool.keep("a", case, STAMPS)
    assert spool.take("a", STAMPS) is None
    spool.folder.mkdir()
    (spool.folder / f".a.{spool.token}.part").mkdir()
    spool.keep("a", case, STAMPS)
    assert spool.take("a", STAMPS) is None


def test_most_of_the_disk_stays_free(tmp_path: Path, case: Decoded, monkeypatch: pytest.MonkeyPatch) -> None:
    _less_room(monkeypatch)
    spool = Spool.within(tmp_path, ["a"])
    spool.keep("a", case, STAMPS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shard", [None, Shard(1, 2)])
def test_the_store_is_the_same_without_room_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: Shard | None
) -> None:
    root = tiny_dataset(tmp_path / "data", cases=5, labelled=3)
    taken = []

    def counted(spool: Spool, case: str, stamps: decoded.Stamps) -> Decoded | None:
        found = take(spool, case, stamps)
        taken.append(found is not None)
        return found

    take = Spool.take
    monkeypatch.setattr(Spool, "take", counted)
    prepare(open_dataset(root), tmp_path / "kept", workers=1, shard=shard)
    assert taken
    assert all(taken)
    taken.clear()
    _less_room(monkeypatch)
    prepare(open_dataset(root), tmp_path / "none", workers=1, shard=shard)
    assert taken
    assert not any(taken)
    assert _content(tmp_path / "kept") == _content(tmp_path / "none")
    assert not list(tmp_path.rglob("*.part"))


def test_only_what_is_to_be_prepared_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tiny_dataset(tmp_path / "data", cases=4, labelled=2)
    prepare(open_dataset(root), workers=1)
    kept = []
    monkeypatch.setattr(Spool, "keep", lambda spool, case, *_: kept.extend({case} & spool.cases))
    source, other = (root / "imagesTr" / f"case_00{number}_0000.nii.gz" for number in (1, 2))
    source.write_bytes(other.read_bytes())
    prepare(open_dataset(root), workers=1)
    assert kept == ["case_001"]
