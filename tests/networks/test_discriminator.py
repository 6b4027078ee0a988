"""Discriminators take patches of any size."""

from __future__ import annotations

import pytest
import torch

from semiseg.networks.discriminator import Discriminator


@pytest.mark.parametrize("sides", [(8, 8), (16, 33), (48, 40), (256, 256), (320, 256), (4, 8, 8), (16, 20, 40)])
def test_any_patch(sides: tuple[int, ...]) -> None:
    net = Discriminator(2, 3, len(sides), 2).eval()
    verdict = net(torch.randn(2, 2, *sides), torch.randn(2, 3, *sides))
    assert verdict.shape == (2, 2)
    assert verdict.isfinite().all()


def test_cells_of_slices_share_no_voxel_but_the_middle() -> None:
    net = Discriminator(1, 1, 2, 1)
    x = torch.arange(36.0).view(1, 1, 6, 6)
    assert net._pooled(x).flatten().tolist() == [7, 10, 25, 28]
    odd = torch.arange(9.0).view(1, 1, 3, 3)
    assert net._pooled(odd).flatten().tolist() == [2, 3, 5, 6]
    assert sum(p.numel() for p in Discriminator(4, 1, 2, 64).parameters()) == 2_762_754
