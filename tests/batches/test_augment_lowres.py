"""A lower resolution that is simulated: fewer voxels by nearest neighbours, and back linearly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from semiseg.batches.augment import AugmentConfig, Params, apply, draw
from semiseg.batches.augment_intensity import lower_resolution

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


@pytest.mark.parametrize("shape", [(17, 20), (12, 9, 15)])
@pytest.mark.parametrize("zoom", [0.5, 0.7, 0.93])
def test_agrees_with_down_by_nearest_and_up_linearly(shape: tuple[int, ...], zoom: float) -> None:
    images = torch.randn(1, 2, *shape)
    low = [round(side * zoom) for side in shape]
    expected = F.interpolate(F.interpolate(images, low, mode="nearest-exact"), shape, mode=MODES[len(shape)])
    found = lower_resolution(images.clone(), [(zoom,) * len(shape)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_sample_never_depends_on_its_neighbours_and_others_stay_bit_by_bit() -> None:
    images = torch.randn(4, 1, 10, 12, 8)
    zooms = [(0.5, 0.5, 0.5), (), (0.8, 0.8, 1.0), (0.62, 0.62, 0.62)]
    together = lower_resolution(images.clone(), zooms)
    for row, zoom in enumerate(zooms):
        alone = lower_resolution(images[row : row + 1].clone(), [zoom])
        assert torch.equal(alone[0], together[row])
        assert torch.equal(together[row], images[row]) == (zoom == ())


def test_off_by_default_and_drawn_as_often_and_as_strongly_as_asked() -> None:
    rng = np.random.default_rng(0)
    assert {draw(AugmentConfig(), rng, (8, 8, 8)).lowres for _ in range(50)} == {()}
    config = AugmentConfig(lowres=0.25, lowres_zoom=(0.5, 1.0))
    drawn = [draw(config, rng, (8, 8, 8)).lowres for _ in range(2000)]
    zooms = [each[0] for each in drawn if each]
    assert len(zooms) / 2000 == pytest.approx(0.25, abs=0.04)
    assert 0.5 <= min(zooms) < 0.55 < 0.95 < max(zooms) <= 1.0
    assert all(len(set(each)) == 1 for each in drawn if each)


def test_other_changes_stay_as_they_are_when_it_is_switched_on() -> None:
    plain, more = AugmentConfig(), AugmentConfig(lowres=1.0)
    for seed in range(20):
        drawn = [draw(config, np.random.default_rng(seed), (8, 8, 8)) for config in (plain, more)]
        assert drawn[1].lowres
        assert {**vars(drawn[1]), "lowres": ()} == vars(drawn[0])


def test_slices_far_apart_are_made_coarser_each_by_itself() -> None:
    config = AugmentConfig.none().model_copy(update={"lowres": 1.0, "lowres_zoom": (0.5, 0.5)})
    found = draw(config, np.random.default_rng(0), (8, 8, 8), (1.0, 1.0, 5.0))
    assert found.lowres == (0.5, 0.5, 1.0)
    images = torch.randn(1, 1, 8, 8, 8)
    out, _ = apply(images, None, [found], (8, 8, 8))
    slices = [lower_resolution(images[..., k].clone(), [(0.5, 0.5)]) for k in range(8)]
    torch.testing.assert_close(out, torch.stack(slices, dim=-1))


def test_labels_keep_their_resolution() -> None:
    label = torch.randint(0, 3, (1, 9, 9))
    out, truth = apply(torch.randn(1, 1, 9, 9), label, [Params(flips=(False, False), lowres=(0.5, 0.5))], (9, 9))
    assert truth is not None
    assert torch.equal(truth, label)
    assert out.shape == (1, 1, 9, 9)
