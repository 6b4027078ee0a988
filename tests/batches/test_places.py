"""Maps moved from patches to their scans and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from semiseg.batches.augment import AugmentConfig, Params, apply, draw, margin
from semiseg.batches.places import Place, known_only, to_patches, to_windows
from semiseg.batches.sampler import Batches, BatchPlan
from semiseg.datasets.dataset import open_dataset
from semiseg.preparing.prepare import prepare
from tiny import tiny_dataset

PATCH = {2: (8, 8), 3: (8, 8, 6)}


def smooth(shape: tuple[int, ...]) -> Tensor:
    axes = torch.meshgrid(*(torch.linspace(0, 2, side) for side in shape), indexing="ij")
    return torch.stack([sum(k * axis for k, axis in enumerate(axes, 1)), axes[0] * axes[1]])  # type: ignore[arg-type]


def drawn(dims: int, count: int, **changes: float) -> tuple[AugmentConfig, list[Params]]:
    config = AugmentConfig.none().model_copy(update=changes)
    rng = np.random.default_rng(4)
    return config, [draw(config, rng, PATCH[dims]) for _ in range(count)]


@pytest.mark.parametrize("dims", [2, 3])
def test_flips_and_turns_go_back_exactly(dims: int) -> None:
    _, params = drawn(dims, 12, flip=0.5, rot90=0.7)
    assert len({(p.flips, p.turn) for p in params}) > 6
    windows = torch.randn(12, 3, *(side + 2 for side in PATCH[dims]))
    places = [Place((0, 0, 0), tuple(windows.shape[2:]), (20, 20, 20), p) for p in params]
    patches = to_patches(windows, places, PATCH[dims])
    assert torch.equal(patches, apply(windows, None, params, PATCH[dims])[0])
    back, known = to_windows(patches, places)
    assert int(known.sum()) == 12 * patches[0, 0].numel()
    assert torch.equal(back * known, windows * known)
    assert not back[~known.expand_as(back)].any()


@pytest.mark.parametrize("dims", [2, 3])
def test_rotations_and_scalings_go_back_nearly(dims: int) -> None:
    config, params = drawn(dims, 12, spatial=0.8)
    assert 0 < sum(p.matrix is not None for p in params) < 12
    sides = margin(config, PATCH[dims])
    windows = smooth(sides).expand(12, 2, *sides).clone()
    places = [Place((0, 0, 0), sides, (20, 20, 20), p) for p in params]
    back, known = to_windows(to_patches(windows, places, PATCH[dims]), places)
    inner = torch.zeros_like(known)
    inner[(..., *(slice(side // 2 - 1, side // 2 + 1) for side in sides))] = True
    assert bool(known[inner].all())
    here = (known & inner).expand_as(back)
    assert float((back - windows)[here].abs().max()) < 0.02


def test_gaps_are_not_read() -> None:
    values, known = torch.ones(1, 2, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool)
    known[..., :3] = False
    values[..., :3] = torch.nan
    values = torch.where(known, values, 5.0)
    turned = Params(matrix=((0.9, 0.2), (-0.2, 0.9)))
    for params in (Params(), turned):
        moved, usable = known_only(values, known, [Place((0, 0, 0), (8, 8), (8, 8, 1), params)], (8, 8))
        assert 0 < int(usable.sum()) < 64
        torch.testing.assert_close(moved[usable.expand_as(moved)], torch.ones(2 * int(usable.sum())), atol=2e-3, rtol=0)


def test_spans_outside_of_the_scan() -> None:
    outer, inner = Place((-2, 3, 9), (5, 5), (20, 6, 10)).spans()
    assert outer == (slice(0, 3), slice(3, 6), slice(9, 10))
    assert inner == (slice(2, 5), slice(0, 3), slice(0, 1))
    outer, inner = Place((30, 0, 0), (5, 5, 5), (20, 6, 10)).spans()
    assert np.zeros((20, 6, 10))[outer].shape[0] == np.zeros((5, 5, 5))[inner].shape[0] == 0


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("changes", [{}, {"flip": 0.5, "rot90": 0.5}])
def test_batches_tell_where_their_voxels_come_from(tmp_path: Path, flat: bool, changes: dict[str, float]) -> None:
    root = tiny_dataset(tmp_path, cases=4, labelled=2)
    store = prepare(open_dataset(root))
    config = AugmentConfig.none().model_copy(update=changes)
    plan = BatchPlan(2, 2, (16, 32) if flat else (16, 16, 24), 0.5, config)  # larger than the scan along one axis
    batches = Batches(store, store.cases[:2], store.cases[2:], plan, seed=0)
    for step in range(4):
        batch = batches(step)
        assert len(batch.places) == len(batch.images) == 4
        windows, known = to_windows(batch.images, batch.places)
        for case, place, window, here in zip(batch.cases, batch.places, windows, known, strict=True):
            image = np.asarray(store.image(case), dtype=np.float32)
            assert place.shape == image.shape[1:]
            outer, inner = place.spans()
            found = (window[..., None] if flat else window).numpy()[(slice(None), *inner)]
            mask = (here[..., None] if flat else here).numpy()[(slice(None), *inner)]
            assert mask.any()
            np.testing.assert_allclose(found[mask], image[(slice(None), *outer)][mask], atol=1e-3)
