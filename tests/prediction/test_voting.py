"""Labels on another grid come from interpolated probabilities, slab by slab, in bounded memory."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from semiseg.prediction.predict import Predictor
from semiseg.prediction.voting import voted
from semiseg.prediction.windows import sliding_labels, sliding_windows
from semiseg.scans.geometry import Geometry, restore_label
from semiseg.scans.resample import classes_by_vote, resample
from semiseg.settings.run import WindowConfig
from semiseg.training.footprint import LiveBytes

CLASSES = 16


def smooth(size: tuple[int, ...], classes: int, seed: int) -> Tensor:
    noise = np.random.default_rng(seed).normal(size=(classes, *size))
    return torch.from_numpy(ndimage.gaussian_filter(noise, (0, *[2.0] * len(size)))).mul(8).softmax(0).float()


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(*[st.integers(1, 20)] * 3),
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    rows=st.integers(1, 20),
    block=st.integers(1, 4000),
    seed=st.integers(0, 99),
)
def test_slabs_and_blocks_of_any_size_give_the_labels_of_the_whole_scan(size, shape, rows, block, seed):
    given_ = smooth(size, 5, seed)
    found = voted(given_.split(rows, dim=1), size, shape, block=block).numpy()
    whole = [resample(each, shape, (1, 1, 1)) for each in given_.numpy()]
    best = np.sort(np.stack(whole), axis=0)
    unsure = best[-1] - best[-2] < 1e-6
    expected = classes_by_vote(iter(whole), range(5))
    np.testing.assert_array_equal(found[~unsure], expected[~unsure])
    assert found.shape == shape
    assert unsure.mean() < 0.02 or unsure.size < 50


def test_smooth_probabilities_give_the_labels_of_the_whole_scan_without_any_exception():
    size, shape = (40, 33, 29), (71, 33, 47)
    given_ = smooth(size, CLASSES, 0)
    found = voted(given_.split(7, dim=1), size, shape)
    expected = classes_by_vote((resample(each, shape, (1, 1, 1)) for each in given_.numpy()), range(CLASSES))
    np.testing.assert_array_equal(found.numpy(), expected)
    assert len(found.unique()) == CLASSES


def test_windows_give_the_labels_of_the_whole_scan_on_another_grid_in_2d_and_3d():
    for patch, stride in (((8, 8, 8), (3, 4, 8)), ((24, 8, 8), (5, 8, 8)), ((8, 8), (5, 4))):
        image = smooth((21, 18, 7), 3, 1)

        def predict(windows: Tensor) -> Tensor:
            return windows.softmax(1)

        whole = sliding_windows(predict, image, patch, stride, batch=3)
        expected = classes_by_vote((resample(each, (30, 18, 9), (1, 1, 1)) for each in whole.numpy()), range(3))
        found = sliding_labels(predict, image, patch, stride, batch=3, shape=(30, 18, 9))
        np.testing.assert_array_equal(found.numpy(), expected)


def test_a_slab_may_be_overwritten_as_soon_as_the_next_one_is_asked_for():
    given_, size, shape = smooth((20, 9, 8), 4, 2), (20, 9, 8), (33, 14, 8)
    store = torch.empty(4, 6, 9, 8)

    def slabs():
        for rows in given_.split(6, dim=1):
            store.fill_(float("nan"))
            store[:, : rows.shape[1]] = rows
            yield store[:, : rows.shape[1]]

    assert torch.equal(voted(slabs(), size, shape), voted([given_], size, shape))


def test_ties_go_to_the_first_class():
    assert voted([torch.full((3, 2, 2, 2), 1 / 3)], (2, 2, 2), (5, 2, 3)).unique().tolist() == [0]


def test_memory_is_a_row_and_a_few_blocks_whatever_the_size_of_the_grids():
    classes, size, shape, block = 30, (64, 16, 16), (128, 32, 32), 4 * 32 * 32
    one = torch.rand(classes, 2, 16, 16)
    with LiveBytes() as memory:
        voted((one for _ in range(32)), size, shape, block=block)
    labels, row = math.prod(shape), 4 * classes * 16 * 16
    assert memory.peak < labels + 2 * row + 7 * 4 * block
    assert memory.peak < 4 * classes * math.prod(size) / 4


class Ellipsoids:
    """A method that reads off a scan of two channels, probability of any object and its class, what it should say."""

    def predict(self, images: Tensor) -> Tensor:
        out = images.new_zeros(len(images), CLASSES, *images.shape[2:])
        out[:, 0] = 1 - images[:, 0]
        return out.scatter_(1, images[:, 1:].long(), images[:, :1])


def ellipsoids(
    size: tuple[int, ...], extent: np.ndarray, radius: float, softness: float
) -> tuple[np.ndarray, np.ndarray]:
    """Probability of an object and class of the nearest one, on a grid of `size` over `extent` mm.

    One object per class lies in each of as many columns along the last axis, off the centre of any voxel.
    """
    axes = [(np.arange(n, dtype=np.float32) + 0.5) * (mm / n) for n, mm in zip(size, extent, strict=True)]
    width = extent[2] / (CLASSES - 1)
    column = np.minimum(axes[2] // width, CLASSES - 2)
    offsets = (axes[0] - extent[0] * 0.503, axes[1] - extent[1] * 0.487, axes[2] - (column + 0.471) * width)
    grid = np.sqrt(offsets[0][:, None, None] ** 2 + offsets[1][:, None] ** 2 / 1.96 + offsets[2] ** 2)
    probability = 1 / (1 + np.exp(np.clip((grid - radius) / softness, -30, 30)))
    return probability.astype(np.float32), np.broadcast_to(column + 1, size).astype(np.float32)


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    masks = [(found == label, truth == label) for label in range(1, CLASSES)]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in masks]))


def restored_dice(size: tuple[int, ...], shape: tuple[int, ...], patch: int) -> tuple[float, float]:
    """Mean Dice of a perfect soft prediction on `size` brought to `shape`, and the growth of the peak memory in GiB."""
    from resource import RUSAGE_SELF, getrusage

    extent = np.asarray(size) * 1.5
    image = np.stack(ellipsoids(size, extent, 4.0, 0.7))
    geometry = Geometry(
        shape=shape, axes=(0, 1, 2), flips=(False,) * 3, start=(0, 0, 0), stop=shape, stored=size, zoomed=False
    )
    predictor = Predictor(
        Ellipsoids(),  # type: ignore[arg-type]
        SimpleNamespace(classes=CLASSES),  # type: ignore[arg-type]
        (patch,) * 3,
        torch.device("cpu"),
        "32-true",
        WindowConfig(overlap=0.0),
    )
    before = getrusage(RUSAGE_SELF).ru_maxrss
    found = restore_label(predictor.predicted(image, geometry), geometry)
    peak = (getrusage(RUSAGE_SELF).ru_maxrss - before) / 2**20
    soft, column = ellipsoids(shape, extent, 4.0, 0.7)
    return dice(found, np.where(soft > 0.5, column, 0)), peak


def test_small_structures_keep_their_dice_on_a_finer_grid():
    found, _ = restored_dice((24, 24, 160), (48, 48, 240), 24)
    assert found > 0.95


@pytest.mark.slow
def test_sixteen_classes_on_a_large_scan_keep_their_dice_within_the_stated_memory():
    """In a process of its own, whose peak is that of this prediction."""
    side, patch, shape = 300, 64, (360, 360, 360)
    code = f"import test_voting; print(*test_voting.restored_dice(({side},) * 3, {shape}, {patch}))"
    folders = [str(path) for path in (Path(__file__).parent, *sys.path)]
    answer = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {folders!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    found, peak = map(float, answer.stdout.split())
    slab, windows = CLASSES * patch * side**2, 16 * CLASSES * patch**3
    scan, labels, whole = 2 * (side + patch) ** 3, math.prod(shape) / 4, CLASSES * side**3
    assert found > 0.95
    assert peak < 4 * (slab + windows + scan + labels) / 2**30 + 0.25 < 4 * whole / 2**30
