from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from semiseg.methods.micd.masking import Masking, MaskingOptions, block_grid, block_mask, draw_block_mask


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


def test_one_mask_per_sample_from_the_default_generator():
    images = torch.rand(2, 3, 12, 12)
    torch.manual_seed(5)
    first = draw_block_mask(images, 0.5, (3, 3))
    torch.manual_seed(5)
    assert torch.equal(first, draw_block_mask(images, 0.5, (3, 3)))
    assert first.shape == (2, 1, 12, 12)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hidden_voxels_are_zero_and_the_others_untouched(dtype):
    images = (torch.rand(2, 3, 6, 6) + 1).to(dtype)
    torch.manual_seed(5)
    everywhere = draw_block_mask(images, 0.5, (2, 2)).expand_as(images)
    torch.manual_seed(5)
    filled = Masking(MaskingOptions(mask_block=2), 2).hide(images)
    assert filled.dtype == dtype
    assert torch.equal(filled[everywhere], images[everywhere])
    assert not filled[~everywhere].any()


def test_one_side_of_a_block_holds_for_all_axes():
    assert Masking(MaskingOptions(mask_block=4), 3).block == (4, 4, 4)
    assert Masking(MaskingOptions(mask_block=(1, 2)), 2).block == (1, 2)
