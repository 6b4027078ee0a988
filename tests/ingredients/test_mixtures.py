from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from semiseg.errors import InputError
from semiseg.ingredients.mixtures import Mixer, MixingOptions, box_mask, centre_box, corner_box, mix, rescale


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


@pytest.mark.parametrize("beta", [0.2, 1.0, 4.0])
def test_mixup_with_shares_from_a_beta_distribution(beta):
    many = torch.zeros(4000, 1, 1, dtype=torch.long)
    share = mixer(mix_beta=beta).draw(many)
    assert share.shape == (4000, 1, 1, 1)
    assert stats.kstest(share.flatten().double().numpy(), stats.beta(beta, beta).cdf).pvalue > 1e-3


def slow_rescale(image, label, factor):
    """Voxel by voxel: linear between the neighbours of the place that a voxel comes from, or the nearest of them."""
    shape = label.shape
    new_image, new_label = np.zeros_like(image), np.zeros_like(label)
    for voxel in np.ndindex(shape):
        source = [((2 * i + 1) / n - 1) / factor for i, n in zip(voxel, shape, strict=True)]
        source = [((u + 1) * n - 1) / 2 for u, n in zip(source, shape, strict=True)]
        nearest = tuple(int(np.rint(s)) for s in source)
        if all(0 <= s < n for s, n in zip(nearest, shape, strict=True)):
            new_label[voxel] = label[nearest]
        for corner in np.ndindex(*(2,) * len(shape)):
            place = tuple(int(np.floor(s)) + c for s, c in zip(source, corner, strict=True))
            if all(0 <= s < n for s, n in zip(place, shape, strict=True)):
                weight = math.prod(1 - abs(s - p) for s, p in zip(source, place, strict=True))
                new_image[(slice(None), *voxel)] += weight * image[(slice(None), *place)]
    return new_image, new_label


@pytest.mark.parametrize("shape", [(9, 6), (5, 6, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rescaling_about_the_centre(shape, dtype):
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(3, 2, *shape, generator=generator, dtype=dtype)
    given = torch.randint(5, (3, *shape), generator=generator)
    factors = torch.tensor([0.53, 1.0, 1.37])
    found, moved = rescale(images, given, factors)
    assert (found.dtype, moved.dtype) == (dtype, given.dtype)
    for n, factor in enumerate(factors.double().tolist()):
        image, label = slow_rescale(images[n].numpy(), given[n].numpy(), factor)
        np.testing.assert_allclose(found[n], image, atol=1e-5)
        np.testing.assert_array_equal(moved[n], label)
    assert torch.equal(moved[1], given[1])


def test_copy_paste_with_scale_jitter_pastes_larger_and_smaller_objects():
    given = torch.zeros(400, 20, 20, dtype=torch.long)
    given[:, 5:15, 5:15] = 2
    each = mixer(mixing="copy_paste", paste_low=0.8, paste_high=1.25)
    images, moved = each.resized(torch.ones(400, 1, 20, 20), given)
    sides = each.draw(moved).flatten(2).sum(2).squeeze(1).sqrt()
    assert (8 <= sides.min() < 9, 11 < sides.max() <= 13) == (True, True)
    assert set(moved.unique().tolist()) == {0, 2}
    assert (images[(moved > 0).unsqueeze(1)] > 0.999).all(), "an object is pasted with its own image"


@pytest.mark.parametrize("options", [{"mixing": "copy_paste"}, {"mixing": "mixup", "paste_low": 0.5}])
def test_images_stay_as_they_are_unless_asked(options):
    each, images, given = mixer(**options), torch.ones(40, 1, 6, 5), labels()
    before = torch.get_rng_state()
    assert each.resized(images, given) == (images, given)
    assert torch.equal(torch.get_rng_state(), before)


def test_bounds_in_the_wrong_order_are_refused():
    with pytest.raises(InputError) as caught:
        mixer(mix_low=0.6, mix_high=0.4, paste_low=2.0)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["mix_low", "paste_low"]
