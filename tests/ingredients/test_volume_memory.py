"""The average of predictions on a scan's grid against arithmetic by hand."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from semiseg.batches.places import Place
from semiseg.ingredients.volume_memory import VolumeMemory

SHAPE = (10, 9, 7)
DECAY = 0.6


def probabilities(count: int, sides: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(count, 3, *sides, generator=torch.Generator().manual_seed(seed)).softmax(1)


@pytest.mark.parametrize("flat", [False, True])
def test_every_voxel_has_its_own_average(flat: bool) -> None:
    """Z <- a Z + (1 - a) z from 0, divided by 1 - a^t, with the visits t of the voxel."""
    sides = (6, 5) if flat else (6, 5, 4)
    memory, generator = VolumeMemory(3, DECAY), torch.Generator().manual_seed(0)
    z, t = torch.zeros(3, *SHAPE), torch.zeros(SHAPE)
    for visit in range(12):
        rooms = [n - s for n, s in zip(SHAPE, (*sides, 1)[:3], strict=True)]
        corner = tuple(int(torch.randint(room + 1, (), generator=generator)) for room in rooms)
        place, p = Place(corner, sides, SHAPE), probabilities(1, sides, visit)
        outer, _ = place.spans()
        target, known = memory.read(["a.b"], [place], sides)
        seen = t[outer].view(sides)
        assert torch.equal(known[0, 0], seen > 0)
        wanted = z[(slice(None), *outer)].view(3, *sides) / (1 - DECAY**seen).clamp(min=1e-9)
        torch.testing.assert_close(target[0], wanted * (seen > 0), atol=2e-3, rtol=0)
        memory.update(["a.b"], [place], p)
        z[(slice(None), *outer)] = DECAY * z[(slice(None), *outer)] + (1 - DECAY) * p[0].view(3, *(*sides, 1)[:3])
        t[outer] += 1
    assert bool((t > 2).any())


def test_state_comes_back_and_nothing_else() -> None:
    place = Place((0, 0, 0), (6, 5, 4), SHAPE)
    one, other = VolumeMemory(3, DECAY), VolumeMemory(3, DECAY)
    one.update(["case"], [place], probabilities(1, (6, 5, 4), 0))
    other.update(["foreign"], [place], probabilities(1, (6, 5, 4), 1))
    other.load_state_dict(deepcopy(one.state_dict()))
    assert one.state_dict().keys() == other.state_dict().keys()
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])
        assert value.dtype == other.state_dict()[key].dtype
    assert torch.equal(other.read(["case"], [place], (6, 5, 4))[0], one.read(["case"], [place], (6, 5, 4))[0])
    assert not other.read(["foreign"], [place], (6, 5, 4))[1].any()


def test_patches_that_leave_the_scan() -> None:
    memory, place = VolumeMemory(3, DECAY), Place((-3, 4, 0), (6, 5, 4), SHAPE)
    memory.update(["case"], [place], probabilities(1, (6, 5, 4), 0))
    _, known = memory.read(["case"], [Place((0, 0, 0), SHAPE, SHAPE)], SHAPE)
    assert int(known.sum()) == 3 * 5 * 4
    assert bool(known[0, 0, :3, 4:, :4].all())


def test_many_visits_forget_the_oldest() -> None:
    memory, place = VolumeMemory(2, DECAY), Place.whole((2, 2))
    for visit in range(300):
        memory.update(["case"], [place], torch.full((1, 2, 2, 2), float(visit >= 270)))
    target, _ = memory.read(["case"], [place], (2, 2))
    torch.testing.assert_close(target, torch.ones(1, 2, 2, 2), atol=2e-3, rtol=0)
