"""Feeds: mapped and resident scans give the same windows, and those of a plain crop of the padded scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from semiseg.batches.augment import AugmentConfig
from semiseg.batches.feed import MappedFeed, Maps, ResidentFeed, Window, make_feed, resident_bytes
from semiseg.batches.sampler import Batches, BatchPlan

CPU = torch.device("cpu")
SHAPES = {"a": (14, 9, 11), "b": (6, 16, 10), "c": (20, 12, 7)}
LABELLED = ("a", "b")


@dataclass
class Volumes:
    """Stands in for a store; two channels of values that differ everywhere."""

    channels: int = 2

    def image(self, case: str) -> np.ndarray:
        size = self.channels * int(np.prod(SHAPES[case]))
        start = 1 + 100 * list(SHAPES).index(case)
        return (start + np.arange(size) % 1900).astype(np.float16).reshape(self.channels, *SHAPES[case])

    def label(self, case: str) -> np.ndarray:
        assert case in LABELLED, "a label that nobody may read"
        return (np.arange(np.prod(SHAPES[case])) % 3 + 1).astype(np.uint8).reshape(SHAPES[case])


def windows(sides: tuple[int, ...], count: int = 40) -> list[Window]:
    rng = np.random.default_rng(5)
    found = []
    for index in range(count):
        labelled = index < count // 2
        case = str(rng.choice(LABELLED if labelled else list(SHAPES)))
        reach = (*sides, 1)[:3]
        corner = tuple(int(rng.integers(-side - 1, size + 2)) for side, size in zip(reach, SHAPES[case], strict=True))
        found.append(Window(case, corner, labelled))
    return found


def crop(volume: np.ndarray, corner: tuple[int, ...], sides: tuple[int, ...]) -> np.ndarray:
    """By brute force: voxel after voxel."""
    out = np.zeros((len(volume), *sides), volume.dtype)
    for place in np.ndindex(*sides):
        at = tuple(p + c for p, c in zip(place, corner, strict=True))
        if all(0 <= k < n for k, n in zip(at, volume.shape[1:], strict=True)):
            out[(slice(None), *place)] = volume[(slice(None), *at)]
    return out


@pytest.mark.parametrize("sides", [(5, 6, 4), (5, 6)])
def test_both_feeds_give_the_windows(sides: tuple[int, ...]) -> None:
    store, asked = Volumes(), windows(sides)
    mapped = MappedFeed(store, sides, CPU)  # type: ignore[arg-type]
    resident = ResidentFeed(store, tuple(SHAPES), LABELLED, sides, CPU)  # type: ignore[arg-type]
    images, labels = mapped.deliver(mapped.read(asked))
    same, same_labels = resident.deliver(resident.read(asked))
    assert labels is not None
    assert same_labels is not None
    assert images.dtype == same.dtype == torch.float16
    assert labels.dtype == same_labels.dtype == torch.uint8
    assert torch.equal(images, same)
    assert torch.equal(labels, same_labels)
    thick = (*sides, 1)[:3]
    for window, image in zip(asked, images, strict=True):
        assert np.array_equal(image.numpy().reshape(2, *thick), crop(store.image(window.case), window.corner, thick))
    for window, label in zip(asked, labels, strict=False):
        assert np.array_equal(
            label.numpy().reshape(thick), crop(store.label(window.case)[None], window.corner, thick)[0]
        )


def test_maps_stay_open_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    store, opened = Volumes(), []
    real = Volumes.image
    monkeypatch.setattr(Volumes, "image", lambda self, case: opened.append(case) or real(self, case))
    monkeypatch.setattr("semiseg.batches.feed.KEPT_OPEN", real(store, "a").nbytes)
    feed = MappedFeed(Maps(store), (4, 4, 4), CPU)
    found = [feed.read([Window(case, (0, 0, 0), False)])[0] for case in "abab"]
    assert opened == ["a", "b", "b"]
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])


def test_windows_inside_need_no_mask() -> None:
    asked = [Window("c", (3, 2, 1), False), Window("b", (0, 0, 0), False)]
    resident = ResidentFeed(Volumes(1), tuple(SHAPES), (), (4, 5, 6), CPU)  # type: ignore[arg-type]
    images, labels = resident.deliver(resident.read(asked))
    assert labels is None
    assert np.array_equal(images[0], Volumes(1).image("c")[:, 3:7, 2:7, 1:7])
    assert np.array_equal(images[1], Volumes(1).image("b")[:, :4, :5, :6])


@pytest.mark.parametrize("patch", [(8, 8, 8), (8, 8)])
def test_batches_are_the_same_wherever_the_scans_lie(patch: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    plan = BatchPlan(2, 2, patch, 0.5, AugmentConfig(spatial=0.7, noise=0.5))
    mapped = Batches(Volumes(), LABELLED, ("c",), plan, seed=1)  # type: ignore[arg-type]

    def on_the_device(store, cases, labelled, sides, device, resident):
        return ResidentFeed(store, cases, labelled, sides, device), "resident"

    monkeypatch.setattr("semiseg.batches.sampler.make_feed", on_the_device)
    resident = Batches(Volumes(), LABELLED, ("c",), plan, seed=1)  # type: ignore[arg-type]
    for step in range(6):
        one, other = mapped(step), resident(step)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert one.cases == other.cases


def test_which_feed_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    store, cases = Volumes(), tuple(SHAPES)
    wanted = 2 * 2 * sum(int(np.prod(shape)) for shape in SHAPES.values())
    wanted += sum(int(np.prod(SHAPES[case])) for case in LABELLED)
    assert resident_bytes(store, cases, LABELLED) == wanted  # type: ignore[arg-type]
    feed, note = make_feed(store, cases, LABELLED, (4, 4, 4), CPU)  # type: ignore[arg-type]
    assert isinstance(feed, MappedFeed)
    assert "memory maps" in note
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (4 * wanted - 4, 8 * wanted))
    feed, note = make_feed(store, cases, LABELLED, (4, 4, 4), torch.device("cuda"))  # type: ignore[arg-type]
    assert isinstance(feed, MappedFeed)
    assert "25%" in note
    assert feed.resident == 0


@pytest.mark.parametrize(
    ("asked", "free", "expected"), [(True, 1, True), (False, 1 << 40, False), (None, 1 << 40, True)]
)
def test_the_feed_of_a_gpu_can_be_asked_for(
    asked: bool | None, free: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (free, free))
    monkeypatch.setattr("semiseg.batches.feed._Buffer", lambda volumes, device: None)
    store, gpu = Volumes(), torch.device("cuda")
    feed, note = make_feed(store, tuple(SHAPES), LABELLED, (4, 4, 4), gpu, asked)  # type: ignore[arg-type]
    wanted = resident_bytes(store, tuple(SHAPES), LABELLED) if expected else 0  # type: ignore[arg-type]
    assert feed.resident == wanted
    assert ("as asked for" in note) == (asked is not None)
