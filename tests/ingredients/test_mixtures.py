from __future__ import annotations

import pytest
import torch
from scipy import stats

from semiseg.ingredients.mixtures import box_mask, centre_box, corner_box, draw_beta, mixup


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


def test_mixup_keeps_the_type():
    a, b = torch.ones(2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    assert mixup(a, b, torch.tensor([[0.25], [1.0]])).tolist() == [[0.25] * 3, [1.0] * 3]
    assert mixup(a, b, torch.tensor(0.5)).dtype == torch.float64


@pytest.mark.parametrize("beta", [0.2, 1.0, 4.0])
def test_shares_from_a_beta_distribution(beta):
    torch.manual_seed(2)
    share = draw_beta(beta, torch.zeros(4000))
    assert stats.kstest(share.double().numpy(), stats.beta(beta, beta).cdf).pvalue > 1e-3
