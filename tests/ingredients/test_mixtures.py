from __future__ import annotations

import math

import pytest
import torch

from semiseg.errors import InputError
from semiseg.ingredients.mixtures import Mixer, MixingOptions, box_mask, centre_box, corner_box, mix


def labels(shape=(6, 5)):
    return torch.randint(3, (40, *shape), generator=torch.Generator().manual_seed(1))


def mixer(**options):
    torch.manual_seed(2)
    return Mixer(MixingOptions(**options))


def test_mixup_draws_one_share_per_pair():
    share = mixer(mix_low=0.4, mix_high=0.6).draw(labels((4, 3, 2)))
    assert share.shape == (40, 1, 1, 1, 1)
    assert len(share.unique()) == 40
    assert 0.4 <= share.min() < 0.45 < 0.55 < share.max() <= 0.6


@pytest.mark.parametrize("shape", [(9, 6), (9, 6, 4)])
def test_boxes_of_fixed_size(shape):
    share = mixer(mixing="cutmix", box_side=0.5).draw(labels(shape))
    assert share.shape == (40, 1, *shape)
    assert set(share.sum(tuple(range(1, share.ndim))).tolist()) == {float(math.prod(int(s / 2) for s in shape))}
    assert len({tuple(each.nonzero()[0].tolist()) for each in share}) > 5


def test_boxes_by_the_rule_of_cutmix_differ_in_size():
    share = mixer(mixing="cutmix", box_beta=4.0).draw(labels((16, 16)))
    assert len(share.flatten(1).sum(1).unique()) > 10


def test_copy_paste_takes_the_foreground():
    given = labels()
    assert torch.equal(mixer(mixing="copy_paste").draw(given)[:, 0], (given > 0).float())


def test_cutout_hides_a_box_and_keeps_the_labels():
    each = mixer(mixing="cutout")
    share = each.draw(labels())
    first, second = torch.full((40, 2, 6, 5), 7.0), torch.ones(40, 2, 6, 5)
    assert torch.equal(each.images(first, second, share), (1 - share).expand_as(second))
    assert not each.target_share(share).any()


def test_cutmix_shows_the_first_image_in_the_box():
    each = mixer(mixing="cutmix")
    share = each.draw(labels())
    first, second = torch.full((40, 2, 6, 5), 7.0), torch.ones(40, 2, 6, 5)
    assert torch.equal(each.images(first, second, share), torch.where(share > 0, first, second))
    assert torch.equal(each.target_share(share), share)


def test_boxes_stay_inside():
    shape = (7, 5, 3)
    for edge in (torch.zeros(2, 3), torch.full((2, 3), 1 - 1e-8)):
        for lower, upper in (
            corner_box(shape, 0.6, edge),
            corner_box(shape, 1.0, edge),
            centre_box(shape, torch.tensor([0.0, 1.0]), edge),
        ):
            assert (lower >= 0).all()
            assert (upper <= torch.tensor(shape)).all()
            assert (lower <= upper).all()


def test_mask_of_a_box():
    found = box_mask(torch.tensor([[1, 0], [0, 2]]), torch.tensor([[3, 1], [2, 4]]), (3, 4))
    wanted = torch.zeros(2, 1, 3, 4, dtype=torch.bool)
    wanted[0, 0, 1:3, 0:1] = True
    wanted[1, 0, 0:2, 2:4] = True
    assert torch.equal(found, wanted)


def test_mix_keeps_the_type():
    a, b = torch.ones(2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    assert mix(a, b, torch.tensor([[0.25], [1.0]])).tolist() == [[0.25] * 3, [1.0] * 3]
    assert mix(a, b, torch.tensor(0.5)).dtype == torch.float64


def test_shares_in_the_wrong_order_are_refused():
    with pytest.raises(InputError, match="mix_low"):
        mixer(mix_low=0.6, mix_high=0.4)
