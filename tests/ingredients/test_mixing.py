"""Boxes and mixed images."""

from __future__ import annotations

import pytest
import torch

from semiseg.ingredients.mixing import box_sides, draw_outside_box, halves, partners, paste_partners


@pytest.mark.parametrize("shape", [(9, 6), (7, 5, 8)])
@pytest.mark.parametrize("ratio", [0.01, 1 / 3, 2 / 3, 0.99])
def test_drawn_boxes_have_their_sides_and_reach_all_starts_but_the_last(shape, ratio):
    torch.manual_seed(0)
    sides = box_sides(shape, ratio)
    starts: list[set[int]] = [set() for _ in shape]
    for _ in range(200):
        inside = ~draw_outside_box(torch.zeros(2, 1, *shape), ratio)
        assert inside.sum() == torch.tensor(sides).prod()
        if inside.any():
            for axis, found in enumerate(starts):
                found.add(int(inside.nonzero()[:, axis].min()))
    if all(sides):
        assert starts == [set(range(size - side)) for size, side in zip(shape, sides, strict=True)]


@pytest.mark.parametrize(
    ("count", "first", "second"), [(4, [0, 1], [2, 3]), (3, [0, 1], [1, 2]), (1, [0], [0]), (0, [], [])]
)
def test_halves(count, first, second):
    assert [half.tolist() for half in halves(torch.arange(count))] == [first, second]


def test_the_second_half_is_pasted_into_the_first():
    values = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 2, 2, 3)
    outside = torch.tensor([[True, False, True], [False, False, True]])
    mixed = paste_partners(values, outside, "half")
    expected = torch.where(outside, 0.0, 2.0)
    assert len(mixed) == 2
    assert torch.equal(mixed[0, 1], expected)
    assert torch.equal(mixed[1, 0], expected + 1)


def test_all_pairs_hold_both_complementary_mixtures():
    values = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 2, 2, 3)
    outside = torch.tensor([[True, False, True], [False, False, True]])
    mixed = paste_partners(values, outside, "all")
    for i, j in ((0, 2), (1, 3)):
        assert torch.equal(mixed[i, 0], torch.where(outside, float(i), float(j)))
        assert torch.equal(mixed[j, 0], torch.where(outside, float(j), float(i)))


@pytest.mark.parametrize("pairs", ["all", "half"])
@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
def test_nobody_is_mixed_with_itself(pairs, count):
    first, second = partners(torch.arange(count), pairs)
    assert (first != second).all()
    assert {*first.tolist(), *second.tolist()} == set(range(count))
