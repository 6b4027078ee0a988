"""Batches: a pure function of (seed, step, rank), true to the volumes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from semiseg.batches.augment import AugmentConfig
from semiseg.batches.sampler import Batches, BatchPlan, Share
from semiseg.errors import InputError


@dataclass
class Volumes:
    """Stands in for a store; every voxel tells its case and place, and the label is a function of the image."""

    shapes: dict[str, tuple[int, ...]]
    opened: list[str] = field(default_factory=list)

    def image(self, case: str) -> np.ndarray:
        shape = self.shapes[case]
        return (np.arange(np.prod(shape)).reshape(1, *shape) % 1999 + 1).astype(np.float16)

    def label(self, case: str) -> np.ndarray:
        self.opened.append(case)
        return (self.image(case)[0] > 1900).astype(np.uint8)


CASES = {f"case{i}": (18 + i, 17, 12) for i in range(7)}
LABELLED, UNLABELLED = ("case0", "case1", "case2"), ("case3", "case4", "case5", "case6")


def _batches(augment: AugmentConfig | None = None, patch: tuple[int, ...] = (8, 8, 8), **settings: object) -> Batches:
    plan = BatchPlan(2, 2, patch, 0.5, augment or AugmentConfig())
    return Batches(Volumes(dict(CASES)), LABELLED, UNLABELLED, plan, seed=4, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("patch", [(8, 8, 8), (8, 8)])
def test_any_order_gives_the_same_batches(patch: tuple[int, ...]) -> None:
    streamed = list(_batches(patch=patch).stream(0, 5))
    for step in (3, 0, 4):
        again = _batches(patch=patch)(step)
        assert torch.equal(again.images, streamed[step].images)
        assert torch.equal(again.labels, streamed[step].labels)
        assert again.cases == streamed[step].cases
    assert streamed[0].images.shape == (4, 1, *patch)
    assert streamed[0].labels.shape == (2, *patch)
    assert not torch.equal(streamed[0].images, streamed[1].images)


def test_another_seed_gives_other_batches() -> None:
    other = Batches(
        Volumes(dict(CASES)), LABELLED, UNLABELLED, BatchPlan(2, 2, (8, 8, 8), 0.5, AugmentConfig()), seed=5
    )  # type: ignore[arg-type]
    assert not torch.equal(other(0).images, _batches()(0).images)


def test_two_processes_share_one_batch() -> None:
    whole = _batches()(3)
    parts = [_batches(share=Share(rank, 2))(3) for rank in range(2)]
    assert torch.equal(torch.cat([p.images[:1] for p in parts] + [p.images[1:] for p in parts]), whole.images)
    assert torch.equal(torch.cat([p.labels for p in parts]), whole.labels)


def test_uneven_shares_are_refused() -> None:
    with pytest.raises(InputError, match="multiples of 3"):
        _batches(share=Share(0, 3))


def test_every_case_once_per_pass_and_labelled_first() -> None:
    batches = _batches()
    assert batches.steps_per_epoch == 2
    for epoch in range(3):
        cases = [batches.cases(2 * epoch + i) for i in range(2)]
        assert Counter(c for step in cases for c in step[2:]) == Counter(UNLABELLED)
        assert all(c in LABELLED for step in cases for c in step[:2])
        assert batches(2 * epoch).cases == cases[0]


def test_labels_belong_to_their_images() -> None:
    batches = _batches(AugmentConfig.none().model_copy(update={"flip": 0.5, "rot90": 0.5}))
    for batch in batches.stream(0, 10):
        inside = batch.labelled[:, 0] > 0
        assert torch.equal(batch.labels[inside], (batch.labelled[:, 0][inside] > 1900).long())


def test_labels_of_unlabelled_cases_are_never_opened() -> None:
    store = Volumes(dict(CASES))
    batches = Batches(store, LABELLED, UNLABELLED, BatchPlan(2, 2, (8, 8, 8), 0.5, AugmentConfig()), seed=0)  # type: ignore[arg-type]
    list(batches.stream(0, 6))
    assert set(store.opened) == set(LABELLED)


def test_small_volumes_are_padded_with_zeros() -> None:
    plan = BatchPlan(1, 0, (24, 24, 16), 1.0, AugmentConfig.none())
    batch = Batches(Volumes(dict(CASES)), ("case0",), (), plan, seed=0)(0)  # type: ignore[arg-type]
    image = batch.images[0, 0]
    assert int((image > 0).sum()) == 18 * 17 * 12
    first = [int(torch.nonzero(image > 0)[:, axis].min()) for axis in range(3)]
    assert first == [3, 3, 2]  # the odd voxel at the end, as in prediction
    assert batch.labels[image.unsqueeze(0) == 0].sum() == 0


def test_foreground_share_finds_rare_voxels() -> None:
    class Rare(Volumes):
        def label(self, case: str) -> np.ndarray:
            label = np.zeros(self.shapes[case], np.uint8)
            label[9, 9, 6] = 1
            return label

    def hits(share: float) -> int:
        plan = BatchPlan(2, 0, (4, 4, 4), share, AugmentConfig.none())
        batches = Batches(Rare(dict(CASES)), LABELLED, (), plan, seed=1)  # type: ignore[arg-type]
        return sum(int((batches(step).labels.flatten(1).sum(1) > 0).sum()) for step in range(20))

    assert hits(1.0) == 40
    assert hits(0.0) < 10
