"""Sliding windows against a slow reference, in 2D, 3D and slices of a volume."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from semiseg.errors import InputError
from semiseg.prediction.windows import cut_windows, sliding_labels, sliding_windows, tile_windows, window_starts
from semiseg.training.footprint import LiveBytes

CASES = {
    "2D": ((17, 12), (6, 8), (3, 5)),
    "2D smaller": ((5, 12), (8, 8), (4, 8)),
    "3D": ((13, 11, 9), (6, 5, 4), (4, 2, 3)),
    "3D smaller on the first axis": ((5, 11, 9), (8, 5, 9), (8, 5, 1)),
    "3D smaller on the last axis": ((12, 7, 3), (6, 7, 8), (2, 7, 3)),
    "one window": ((6, 6, 6), (6, 6, 6), (1, 1, 1)),
    "slices": ((15, 9, 4), (8, 8), (5, 3)),
    "slices smaller": ((7, 9, 3), (8, 12), (5, 3)),
}


def position_aware(spatial_dims, classes=3):
    """A fixed random network whose answer depends on neighbours and on where in the patch a voxel lies."""
    torch.manual_seed(spatial_dims)
    conv = (nn.Conv2d if spatial_dims == 2 else nn.Conv3d)(2, classes, 3, padding=1)

    def predict(images):
        ramp = torch.arange(images[0, 0].numel()).reshape(images.shape[2:]) / images[0, 0].numel()
        return (conv(images) + ramp).softmax(1)

    return predict


def slow(predict, image, patch, stride, weights):
    """Window by window in float64 numpy, padding and counting as the sheet words it."""
    size, image = image.shape[1:], image.numpy()
    missing = [max(p - s, 0) for p, s in zip(patch, size, strict=True)]
    image = np.pad(image, [(0, 0), *((m // 2, m - m // 2) for m in missing)])
    total = count = 0.0
    grid = [np.arange(p) - (p - 1) / 2 for p in patch]
    weight = np.ones(patch)
    if weights == "gaussian":
        squares = [(g / (p / 8)) ** 2 for g, p in zip(grid, patch, strict=True)]
        weight = np.exp(-0.5 * sum(np.meshgrid(*squares, indexing="ij")))
    steps = [math.ceil((s - p) / t) + 1 for s, p, t in zip(image.shape[1:], patch, stride, strict=True)]
    for index in itertools.product(*map(range, steps)):
        start = [min(t * i, s - p) for t, i, s, p in zip(stride, index, image.shape[1:], patch, strict=True)]
        box = (slice(None), *(slice(a, a + p) for a, p in zip(start, patch, strict=True)))
        out = predict(torch.from_numpy(image[box])[None])[0].detach().numpy()
        score, seen = np.zeros((len(out), *image.shape[1:])), np.zeros((1, *image.shape[1:]))
        score[box], seen[box] = out * weight, weight
        total, count = total + score, count + seen
    cut = tuple(slice(m // 2, m // 2 + s) for m, s in zip(missing, size, strict=True))
    return (total / count)[(slice(None), *cut)]


@pytest.mark.parametrize("weights", ["uniform", "gaussian"])
@pytest.mark.parametrize("name", CASES)
def test_equal_to_slow_reference(name, weights):
    size, patch, stride = CASES[name]
    image = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    predict = position_aware(len(patch))
    if len(patch) < len(size):
        slices = [slow(predict, image[..., z], patch, stride, weights) for z in range(size[-1])]
        expected = np.stack(slices, -1)
    else:
        expected = slow(predict, image, patch, stride, weights)
    for batch in (1, 3, 100):
        found = sliding_windows(predict, image, patch, stride, batch=batch, weights=weights)
        assert found.shape == (3, *size)
        assert not found.requires_grad
        np.testing.assert_allclose(found.numpy(), expected, atol=2e-6, rtol=0)
        labels = sliding_labels(predict, image, patch, stride, batch=batch, weights=weights)
        torch.testing.assert_close(labels, found.argmax(0).to(torch.uint8))


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation returned."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def test_labels_never_hold_all_probabilities():
    classes, size, patch = 20, (64, 12, 10), (8, 8, 8)

    def predict(images):
        return images.expand(-1, classes, -1, -1, -1)

    with LargestTensor() as memory:
        sliding_labels(predict, torch.zeros(1, *size), patch, (4, 4, 4), batch=2)
    slab, windows = classes * patch[0] * size[1] * size[2], 2 * classes * math.prod(patch)
    assert memory.numel <= max(slab, windows) < classes * math.prod(size) / 4


def test_accumulates_half_precision_in_float32():
    image = torch.zeros(1, 40)[:, None].expand(1, 8, 40).contiguous()
    found = sliding_windows(lambda x: torch.full((len(x), 1, 8, 8), 0.1).bfloat16(), image, (8, 8), (8, 1))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full_like(found, torch.tensor(0.1).bfloat16().item()))


def test_many_classes_need_wide_labels():
    def predict(images):
        out = torch.zeros(len(images), 300, 4, 4)
        out[:, 290] = 1
        return out

    assert sliding_labels(predict, torch.zeros(1, 4, 4), (4, 4), (4, 4)).unique().tolist() == [290]


def test_windows_end_at_the_border():
    assert window_starts(23, 12, 6) == [0, 6, 11]
    assert window_starts(12, 12, 6) == [0]
    assert window_starts(5, 12, 6) == [0]


@pytest.mark.parametrize(
    ("patch", "stride", "options", "message"),
    [
        ((4, 4, 4), (5, 4, 4), {}, "strides between 1 and"),
        ((4, 4, 4), (0, 4, 4), {}, "strides between 1 and"),
        ((4,), (4,), {}, "one number per axis"),
        ((4, 4, 4), (4, 4), {}, "one number per axis"),
        ((4, 4, 4), (4, 4, 4), {"weights": "gauss"}, "'uniform' or 'gaussian'"),
        ((4, 4, 4), (4, 4, 4), {"batch": 0}, "at least one window"),
    ],
)
def test_wrong_settings(patch, stride, options, message):
    with pytest.raises(InputError, match=message):
        sliding_windows(lambda x: x, torch.zeros(1, 8, 8, 8), patch, stride, **options)


def test_answer_of_another_size_is_a_bug():
    with pytest.raises(ValueError, match="predict returned"):
        sliding_windows(lambda x: x[..., :2], torch.zeros(1, 8, 8), (4, 4), (4, 4))


@pytest.mark.parametrize("name", CASES)
def test_windows_are_those_that_the_network_sees(name):
    size, patch, stride = CASES[name]
    image = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    seen = []
    sliding_windows(lambda x: seen.append(x) or x, image, patch, stride, batch=3)
    found = list(cut_windows(image, patch, stride, batch=3))
    assert len(found) == len(seen)
    assert all(torch.equal(*pair) for pair in zip(found, seen, strict=True))
    whole = list(cut_windows(torch.ones(1, *size, dtype=torch.long), patch, stride, batch=1))
    assert {each.dtype for each in whole} == {torch.long}
    assert min(int(each.sum()) for each in whole) > 0


@pytest.mark.parametrize(
    ("shape", "patch"), [((11, 9, 7), (4, 4, 4)), ((5, 9, 3), (8, 4, 6)), ((8, 8, 5), (4, 4)), ((10, 6), (4, 4))]
)
def test_tiles_show_every_voxel_once(shape, patch):
    image = torch.arange(1, 1 + math.prod(shape), dtype=torch.float32).view(1, *shape)
    seen = []
    for images, counted in tile_windows(image, patch, batch=3):
        assert images.shape[1:] == (1, *patch)
        assert counted.shape == (len(images), *patch)
        assert len(images) <= 3
        seen.append(images[:, 0][counted])
    assert torch.equal(torch.cat(seen).sort().values, image.flatten())


@pytest.mark.parametrize("step", [2, 8])
def test_labels_hold_one_slab_at_a_time(step):
    classes, size, patch = 80, (64, 24, 24), (8, 8, 8)

    def predict(images):
        return images.expand(-1, classes, -1, -1, -1)

    with LiveBytes() as memory:
        sliding_labels(predict, torch.zeros(1, *size), patch, (step, 8, 8), batch=1)
    slab = 4 * classes * patch[0] * size[1] * size[2]
    assert slab < memory.peak < 1.5 * slab
