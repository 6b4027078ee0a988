"""Feeding, augmentation, windows and labels' components on a GPU that is not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fake_cuda import CUDA, fake_cuda
from semiseg.batches.augment import AugmentConfig, apply, draw, margin
from semiseg.batches.feed import ResidentFeed, Window, make_feed
from semiseg.ingredients.class_sums import class_counts
from semiseg.prediction import batching, windows
from semiseg.prediction.windows import sliding_labels, sliding_windows, tile_windows
from semiseg.runs.logging import Meter

PATCHES = [(8, 8, 8), (8, 8)]


class Copies(TorchDispatchMode):
    """Counts copies from the host to the device, and operations."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.seen["operations"] += 1
        if name == "_to_copy" and out.is_cuda and not args[0].is_cuda:
            self.seen["copies"] += 1
        return out


class Scans:
    """A store."""

    def image(self, case: str) -> np.ndarray:
        return np.ones((1, 20, 18, 16), np.float16)

    def label(self, case: str) -> np.ndarray:
        return np.ones((20, 18, 16), np.uint8)


def predict(images: Tensor) -> Tensor:
    assert images.is_cuda
    return torch.cat([images, -images, images.square()], 1).softmax(1)


@pytest.mark.parametrize("sides", PATCHES)
def test_scans_on_the_device_are_gathered_there(sides: tuple[int, ...]) -> None:
    asked = [Window("a", (0, 0, 0), True), Window("b", (-3, 4, 8), True), Window("b", (15, 15, 10), False)]
    with fake_cuda() as mode:
        mode.allow_non_fake_inputs = True  # scans come from files
        feed, _ = make_feed(Scans(), "ab", "ab", sides, CUDA)  # type: ignore[arg-type]
        mode.allow_non_fake_inputs = False
        assert isinstance(feed, ResidentFeed)
        images, labels = feed.deliver(feed.read(asked))
        assert images.is_cuda
        assert labels is not None
        assert labels.is_cuda
        assert (images.shape, labels.shape) == ((3, 1, *sides), (2, *sides))


@pytest.mark.parametrize("patch", PATCHES)
def test_augmentation_stays_on_the_device(patch: tuple[int, ...]) -> None:
    names = ("flip", "rot90", "spatial", "noise", "blur", "brightness", "contrast", "gamma")
    config = AugmentConfig(**dict.fromkeys(names, 0.9))
    rng = np.random.default_rng(3)
    drawn = [draw(config, rng, patch) for _ in range(6)]
    with fake_cuda():
        source = margin(config, patch)
        images, labels = torch.randn(6, 1, *source, device=CUDA), torch.zeros(3, *source, dtype=torch.long, device=CUDA)
        assert all(tensor.is_cuda for tensor in apply(images, labels, drawn, patch))


@pytest.mark.parametrize("weights", ["uniform", "gaussian"])
@pytest.mark.parametrize(("patch", "stride"), [((8, 8, 8), (4, 4, 4)), ((8, 8), (4, 4)), ((32, 8, 8), (32, 4, 4))])
def test_windows_stay_on_the_device(patch: tuple[int, ...], stride: tuple[int, ...], weights: Any) -> None:
    with fake_cuda():
        image = torch.randn(1, 20, 18, 16, device=CUDA)
        for slide in (sliding_windows, sliding_labels, partial(sliding_labels, shape=(31, 9, 16))):
            assert slide(predict, image, patch, stride, batch=3, weights=weights).is_cuda
        for images, shown in tile_windows(image, patch, batch=4):
            assert images.is_cuda
            assert shown.is_cuda


def _copies(slide: Callable[..., object], side: int) -> int:
    with fake_cuda(), Copies() as copies:
        slide(torch.randn(1, side, 8, 8, device=CUDA))
    return copies.seen["copies"]


def test_window_weights_are_copied_once_however_many_slabs_there_are() -> None:
    def slide(image: Tensor) -> Tensor:
        return sliding_labels(predict, image, (8, 8, 8), (4, 4, 4), weights="gaussian")

    assert _copies(slide, 16) == _copies(slide, 64) <= 6


def test_masks_of_tiles_are_copied_once_per_batch() -> None:
    assert _copies(lambda image: list(tile_windows(image, (8, 8, 8), batch=8)), 64) == 3


def test_windows_that_the_device_has_no_room_for_are_added_up_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def with_room(make: Callable[[torch.device], Tensor], device: torch.device) -> Tensor:
        asked.append(device.type)
        return make(torch.device("cpu"))

    for module in (batching, windows):
        monkeypatch.setattr(module, "with_room", with_room)
    with fake_cuda():
        image = torch.randn(1, 20, 18, 16, device=CUDA)
        for slide in (sliding_windows, sliding_labels, partial(sliding_labels, shape=(31, 9, 16))):
            found = slide(predict, image, (8, 8, 8), (4, 4, 4), batch=3)
            assert found.device.type == "cpu"
    assert asked == 3 * ["cuda", "cuda", "cpu"], "the padded scan, the sums, and what becomes of them"


@pytest.mark.parametrize(("classes", "most"), [(4, 20), (105, 20)])
def test_many_classes_are_counted_by_few_operations(classes: int, most: int) -> None:
    with fake_cuda(), Copies() as copies:
        labels = torch.zeros(2, 8, 8, dtype=torch.long, device=CUDA)
        assert class_counts(labels, classes).shape == (classes,)
    assert copies.seen["operations"] <= most


def test_loss_terms_are_gathered_on_the_device() -> None:
    with fake_cuda():
        meter = Meter()
        meter.add({"a": torch.ones((), device=CUDA)})
        meter.add({"a": torch.ones((), device=CUDA), "b": torch.zeros((), device=CUDA)})
