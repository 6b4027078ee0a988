from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from semiseg.ingredients.masking import block_grid, block_mask, draw_block_mask, hide


def slow_mask(uniform, ratio, block, shape):
    visible = np.zeros((len(uniform), 1, *shape), dtype=bool)
    for b, *voxel in itertools.product(range(len(uniform)), *(range(side) for side in shape)):
        cell = tuple(position // unit for position, unit in zip(voxel, block, strict=True))
        visible[(b, 0, *voxel)] = uniform[(b, *cell)] >= ratio
    return visible


@pytest.mark.parametrize(("shape", "block"), [((7, 8), (3, 3)), ((5, 6, 4), (2, 3, 4)), ((4, 4, 4), (5, 1, 2))])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_equal_to_slow_mask(shape, block, ratio):
    uniform = torch.rand(2, *block_grid(shape, block), generator=torch.Generator().manual_seed(0))
    mask = block_mask(uniform, ratio, block, shape)
    np.testing.assert_array_equal(mask.numpy(), slow_mask(uniform.numpy(), ratio, block, shape))


def test_exact_share_of_blocks():
    uniform = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    for ratio in (0.0, 0.25, 0.5, 1.0):
        visible = block_mask(uniform, ratio, (1, 1), (4, 5), exact=True)
        assert visible.flatten(1).sum(1).tolist() == [20 - round(20 * ratio)] * 3
    hidden = ~block_mask(uniform, 0.25, (1, 1), (4, 5), exact=True)[0, 0]
    assert uniform[0][hidden].max() < uniform[0][~hidden].min()


def test_one_mask_per_sample_from_the_default_generator():
    images = torch.rand(2, 3, 12, 12)
    torch.manual_seed(5)
    first = draw_block_mask(images, 0.5, (3, 3))
    torch.manual_seed(5)
    assert torch.equal(first, draw_block_mask(images, 0.5, (3, 3)))
    assert first.shape == (2, 1, 12, 12)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hidden_voxels(dtype):
    images = (torch.rand(2, 3, 6, 6) + 1).to(dtype)
    visible = draw_block_mask(images, 0.5, (2, 2))
    zero, mean = hide(images, visible), hide(images, visible, "mean")
    everywhere = visible.expand_as(images)
    for filled in (zero, mean):
        assert filled.dtype == dtype
        assert torch.equal(filled[everywhere], images[everywhere])
    assert not zero[~everywhere].any()
    means = images.mean((2, 3), keepdim=True).expand_as(images)
    assert torch.equal(mean[~everywhere], means[~everywhere])
