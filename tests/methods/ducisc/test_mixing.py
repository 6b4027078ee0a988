"""Mixtures of labelled and unlabelled images: Mixup, and the competitors of Table X."""

from __future__ import annotations

import math

import pytest
import torch

from semiseg.methods.ducisc.ablations import CopyPaste, CutMix, CutOut
from semiseg.methods.ducisc.mixing import Mixup


def labels(shape=(6, 5)):
    return torch.randint(3, (40, *shape), generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(2)


def test_mixup_draws_one_share_per_pair():
    share = Mixup().draw(labels((4, 3, 2)))
    assert share.shape == (40, 1, 1, 1, 1)
    assert len(share.unique()) == 40
    assert 0.25 <= share.min() < 0.3 < 0.7 < share.max() <= 0.75


@pytest.mark.parametrize("shape", [(9, 6), (9, 6, 4)])
def test_boxes_of_fixed_size(shape):
    share = CutMix().draw(labels(shape))
    assert share.shape == (40, 1, *shape)
    assert set(share.sum(tuple(range(1, share.ndim))).tolist()) == {float(math.prod(int(s * 2 / 3) for s in shape))}
    assert len({tuple(each.nonzero()[0].tolist()) for each in share}) > 5


def test_copy_paste_takes_the_foreground():
    given = labels()
    assert torch.equal(CopyPaste().draw(given)[:, 0], (given > 0).float())


def test_cutout_hides_a_box_and_keeps_the_labels():
    each = CutOut()
    share = each.draw(labels())
    first, second = torch.full((40, 2, 6, 5), 7.0), torch.ones(40, 2, 6, 5)
    assert torch.equal(each.images(first, second, share), (1 - share).expand_as(second))
    assert not each.target_share(share).any()


def test_cutmix_shows_the_first_image_in_the_box():
    each = CutMix()
    share = each.draw(labels())
    first, second = torch.full((40, 2, 6, 5), 7.0), torch.ones(40, 2, 6, 5)
    assert torch.equal(each.images(first, second, share), torch.where(share > 0, first, second))
    assert torch.equal(each.target_share(share), share)


def test_labelled_patches_are_taken_in_turn():
    labelled, unlabelled = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1), torch.zeros(3, 1, 1, 1)
    ones = torch.ones(2, 1, 1, dtype=torch.long)
    images, target, share = Mixup()(labelled, ones, unlabelled, torch.zeros(3, 2, 1, 1))
    torch.testing.assert_close(images.flatten() / share.flatten(), torch.tensor([1.0, 2.0, 1.0]))
    torch.testing.assert_close(target[:, 1:], share)
