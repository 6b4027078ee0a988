"""Rotations are those of mm, whatever the spacing, and of slices alone where these are far apart."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import semiseg
from semiseg.batches.augment import LARGEST_WINDOW, AugmentConfig, Params, apply, draw, margin
from semiseg.batches.places import Place, to_patches, to_windows
from semiseg.datasets.splits import Split
from semiseg.runs.build import Build
from semiseg.settings.presets import preset
from semiseg.settings.run import RunConfig
from tiny import tiny_dataset

ALWAYS = AugmentConfig.none().model_copy(update={"spatial": 1.0, "rotation": 30.0, "scaling": (1.0, 1.0)})
COARSE = (0.8, 0.8, 2.4)
PATCH = (64, 64, 40)


def matrices(config: AugmentConfig, patch: tuple[int, ...], spacing: tuple[float, ...] | None, count: int = 200):
    rng = np.random.default_rng(0)
    return [np.array(draw(config, rng, patch, spacing).matrix) for _ in range(count)]


@pytest.mark.parametrize("spacing", [COARSE, (2.0, 1.0, 0.7), (1.0, 3.0), (0.5, 0.5, 0.5)])
def test_a_rotation_as_seen_in_mm_stretches_nothing(spacing: tuple[float, ...]) -> None:
    mm = np.diag(spacing)
    for matrix in matrices(ALWAYS, PATCH[: len(spacing)], spacing):
        stretches = np.linalg.svd(mm @ matrix @ np.linalg.inv(mm), compute_uv=False)
        assert_allclose(stretches, 1.0, atol=1e-9)


def test_a_zoom_stretches_all_directions_in_mm_alike() -> None:
    config = ALWAYS.model_copy(update={"scaling": (2.0, 2.0)})
    for matrix in matrices(config, PATCH, COARSE):
        stretches = np.linalg.svd(np.diag(COARSE) @ matrix @ np.diag(1 / np.array(COARSE)), compute_uv=False)
        assert_allclose(stretches, 0.5, atol=1e-9)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.3, 0.3, 0.3)])
def test_equal_spacings_leave_the_numbers_as_they_are_without_any(spacing: tuple[float, ...]) -> None:
    config = AugmentConfig(spatial=0.7, rot90=0.5, flip=0.5)
    drawn = [[draw(config, np.random.default_rng(k), (48, 48, 32), s) for k in range(40)] for s in (None, spacing)]
    assert drawn[0] == drawn[1]
    assert margin(config, (48, 48, 32), spacing) == margin(config, (48, 48, 32))


def test_a_ball_stays_a_ball_between_far_slices() -> None:
    patch, spacing = (48, 48, 20), (1.0, 1.0, 2.5)
    mm = np.array(spacing)[:, None, None, None]
    offsets = (np.indices(patch) - (np.array(patch)[:, None, None, None] - 1) / 2) * mm
    ball = torch.from_numpy((np.linalg.norm(offsets, axis=0) < 15).astype(np.int64))[None]
    rng, config = np.random.default_rng(1), ALWAYS.model_copy(update={"rotation": 60.0})
    for _ in range(10):
        _, found = apply(ball[:, None].float(), ball, [draw(config, rng, patch, spacing)], patch)
        assert found is not None
        overlap = 2 * int((found * ball).sum()) / int(found.sum() + ball.sum())
        assert overlap > 0.92


@pytest.mark.parametrize(
    ("patch", "spacing", "flat"),
    [
        (PATCH, COARSE, False),
        (PATCH, (0.8, 0.8, 2.5), True),
        ((160, 160, 28), (0.8, 0.8, 2.0), True),
        ((84, 84, 28), (0.8, 0.8, 2.0), False),
        ((160, 160, 28), None, True),
        ((96, 96, 96), (1.0, 1.0, 1.0), False),
    ],
)
def test_rotations_stay_in_slices_where_these_are_far_apart_or_few(patch, spacing, flat) -> None:
    for chosen, expected in ((None, flat), (True, True), (False, False)):
        config = ALWAYS.model_copy(update={"in_plane": chosen, "scaling": (0.8, 0.8)})
        within = [
            np.allclose(m[2], [0, 0, 1]) and np.allclose(m[:, 2], [0, 0, 1]) for m in matrices(config, patch, spacing)
        ]
        assert set(within) == {expected}
        assert (margin(config, patch, spacing)[2] == patch[2]) is expected


@pytest.mark.parametrize("spacing", [COARSE, (1.0, 1.4, 2.0)])
def test_the_source_window_holds_what_rotations_in_mm_read(spacing: tuple[float, ...]) -> None:
    config = ALWAYS.model_copy(update={"rotation": 10.0, "scaling": (0.95, 1.0)})
    window, wanted = np.array(margin(config, PATCH, spacing)), np.array(PATCH)
    assert (window > wanted).all()
    for matrix in matrices(config, PATCH, spacing):
        reach = np.abs(matrix) @ wanted
        assert (reach <= np.maximum(window, 0) + 1e-6).all() or (window >= LARGEST_WINDOW * wanted - 1).any()


def test_quarter_turns_only_between_equal_spacings() -> None:
    config = AugmentConfig.none().model_copy(update={"rot90": 1.0})
    rng = np.random.default_rng(0)
    planes = {draw(config, rng, (8, 8, 8), (1.0, 1.01, 2.0)).turn[1:] for _ in range(60)}
    assert planes == {(0, 1)}
    assert {draw(config, rng, (8, 8), (1.0, 2.0)).turn[0] for _ in range(20)} == {0}


def test_maps_go_to_patches_and_back_under_rotations_in_mm() -> None:
    config, patch = ALWAYS.model_copy(update={"scaling": (0.9, 1.1), "rotation": 15.0}), (12, 12, 8)
    sides = margin(config, patch, COARSE)
    axes = torch.meshgrid(*(torch.linspace(0, 2, side) for side in sides), indexing="ij")
    windows = (axes[0] + 2 * axes[1] + 3 * axes[2]).expand(6, 1, *sides).clone()
    rng = np.random.default_rng(3)
    places = [Place((0, 0, 0), sides, (40, 40, 40), draw(config, rng, patch, COARSE)) for _ in range(6)]
    back, known = to_windows(to_patches(windows, places, patch), places)
    inner = (..., *(slice(side // 2 - 1, side // 2 + 1) for side in sides))
    assert bool(known[inner].all())
    assert float((back - windows)[inner].abs().max()) < 0.02


@pytest.mark.parametrize(("spacing", "slice_size"), [((1.0, 1.0, 2.5), None), ((1.0, 1.5, 8.0), (32, 32))])
def test_batches_take_the_spacing_of_the_plan(tmp_path: Path, spacing, slice_size) -> None:
    affine = np.diag([*spacing, 1.0])
    data = tiny_dataset(tmp_path / "data", cases=3, labelled=3, shape=(24, 24, 8), affine=affine)
    plan = semiseg.prepare(data, tmp_path / "prepared", workers=1).plan
    if slice_size:
        plan = plan.model_copy(update={"slice_size": slice_size, "patch": slice_size})
    config = RunConfig(data=data, method="supervised", network={"options": {"filters": [4, 8]}})
    found = Build(config, plan).batch_plan(Split(("case_000",), (), (), ())).spacing
    assert found == (None if slice_size else plan.spacing[: plan.spatial_dims])
    if not slice_size:
        assert max(plan.spacing) / min(plan.spacing) == pytest.approx(2.5)


TURNED = ((math.cos(0.5), math.sin(0.5)), (-math.sin(0.5), math.cos(0.5)))


@pytest.mark.parametrize("nearest", [False, True])
def test_beyond_the_window_is_its_mirror_image_or_zero_in_images_and_labels(nearest: bool) -> None:
    image, label = torch.full((2, 1, 20, 20), 3.0), torch.ones(2, 20, 20, dtype=torch.uint8)
    both = [Params(matrix=TURNED, nearest=nearest, zero=zero) for zero in (False, True)]
    found, truth = apply(image, label, both, (20, 20))
    assert truth is not None
    assert_allclose(found[0], 3, atol=1e-5)
    assert bool((truth[0] == 1).all())
    corners = (..., [0, 0, -1, -1], [0, -1, 0, -1])
    assert not found[1][corners].any()
    assert not truth[1][corners].any()
    assert_allclose(found[1, 0, 4:16, 4:16], 3, atol=1e-5)
    alone, _ = apply(image[1:], label[1:], both[1:], (20, 20))
    assert torch.equal(alone[0], found[1])
    unlabelled, kept = apply(image, label[:1], both, (20, 20))
    assert torch.equal(unlabelled, found)
    assert kept is not None
    assert torch.equal(kept[0], truth[0])


def test_fill_reaches_every_sample() -> None:
    for fill in ("mirror", "zero"):
        config = ALWAYS.model_copy(update={"fill": fill})
        assert {draw(config, np.random.default_rng(k), (8, 8)).zero for k in range(5)} == {fill == "zero"}


def test_the_preset_of_rotated_slices_fills_with_zero_as_its_sources_do() -> None:
    assert preset("acdc").run["augment"]["fill"] == "zero"
