import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from semiseg.prediction.voting import voted
from semiseg.scans.geometry import (
    Geometry,
    image_orders,
    label_to_stored,
    orient,
    orientation,
    restore_label,
    stored_shape,
)
from semiseg.scans.resample import resample

CODES = [
    "".join(axes) for letters in itertools.permutations(["RL", "AP", "SI"]) for axes in itertools.product(*letters)
]


def affine_of(codes, spacing=(1.0, 1.0, 1.0), turn=(0.0, 0.0, 0.0)):
    """Affine of a scan whose axes point to `codes`, turned by `turn` degrees about the world's axes."""
    ornt = nib.orientations.axcodes2ornt(codes)
    direction = np.zeros((3, 3))
    for axis, (canonical, sign) in enumerate(ornt):
        direction[int(canonical), axis] = sign * spacing[axis]
    for about, degrees in enumerate(turn):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        first, second = (a for a in range(3) if a != about)
        rotation = np.eye(3)
        rotation[[first, first, second, second], [first, second, first, second]] = c, -s, s, c
        direction = rotation @ direction
    affine = np.eye(4)
    affine[:3, :3] = direction
    affine[:3, 3] = 12.5, -40.0, 3.0
    return affine


def geometry_of(shape, affine, transpose, box=None, stored=None):
    axes, flips = orientation(affine, transpose)
    whole = tuple(shape[axis] for axis in axes)
    start, stop = box or ((0, 0, 0), whole)
    inside = tuple(b - a for a, b in zip(start, stop, strict=True))
    return Geometry(shape=shape, axes=axes, flips=flips, start=start, stop=stop, stored=stored or inside)


def restore(probabilities, geometry, rows=2):
    """Most probable class on the scan's grid, of probabilities that come a few rows at a time."""
    slabs = torch.from_numpy(probabilities.astype(np.float32)).split(rows, dim=1)
    return restore_label(voted(slabs, geometry.stored, geometry.cropped).numpy(), geometry)


def test_there_are_48_orientations():
    assert len(set(CODES)) == 48


@settings(max_examples=150, deadline=None)
@given(
    codes=st.sampled_from(CODES),
    turn=st.tuples(*[st.floats(-35, 35)] * 3),
    transpose=st.permutations([0, 1, 2]),
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    seed=st.integers(0, 1000),
)
def test_label_comes_back_exactly(codes, turn, transpose, shape, seed):
    label = np.random.default_rng(seed).integers(0, 5, shape).astype(np.uint8)
    geometry = geometry_of(shape, affine_of(codes, (0.7, 1.2, 3.0), turn), tuple(transpose))
    stored = label_to_stored(label, geometry)
    np.testing.assert_array_equal(restore_label(stored, geometry), label)
    one_hot = (stored[None] == np.arange(5)[:, None, None, None]).astype(np.float32)
    np.testing.assert_array_equal(restore(one_hot, geometry), label)


@pytest.mark.parametrize("codes", CODES)
def test_stored_axes_are_canonical_whatever_the_file_says(codes):
    canonical = np.random.default_rng(0).integers(0, 9, (3, 4, 5)).astype(np.uint8)
    to_file = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
    )
    in_file = nib.orientations.apply_orientation(canonical, to_file)
    affine = affine_of(codes, turn=(10, -20, 5))
    for transpose in itertools.permutations(range(3)):
        stored = orient(in_file, *orientation(affine, transpose))
        np.testing.assert_array_equal(stored, canonical.transpose(transpose))


def test_orient_keeps_leading_axes():
    image = np.arange(48).reshape(2, 2, 3, 4)
    axes, flips = orientation(affine_of("SLP"))
    oriented = orient(image, axes, flips)
    for channel in range(2):
        np.testing.assert_array_equal(oriented[channel], orient(image[channel], axes, flips))


def test_outside_of_the_box_is_background():
    label = np.ones((6, 6, 6), np.uint8)
    geometry = geometry_of((6, 6, 6), affine_of("LPS"), (2, 0, 1), box=((1, 0, 2), (5, 6, 6)))
    restored = restore_label(label_to_stored(label, geometry), geometry)
    assert restored.sum() == 4 * 6 * 4
    np.testing.assert_array_equal(
        restored, restore(np.stack([0 * restored, 1 + 0 * restored])[:, :4, :6, :4], geometry)
    )


@pytest.mark.parametrize(("stored", "least"), [((10, 12, 9), 0.88), ((30, 18, 40), 0.93)])
def test_resampled_label_comes_back_nearly(stored, least):
    grid = np.stack(np.meshgrid(*[np.arange(20)] * 3, indexing="ij"))
    label = (((grid - 9.5) ** 2).sum(0) < 49).astype(np.uint8)
    geometry = geometry_of((20, 20, 20), affine_of("PIR"), (0, 2, 1), stored=stored)
    small = label_to_stored(label, geometry)
    assert small.shape == stored
    one_hot = np.stack([small == 0, small == 1]).astype(np.float16)
    restored = restore(one_hot, geometry)
    assert restored.shape == label.shape
    overlap = 2 * (restored & label).sum() / (restored.sum() + label.sum())
    assert overlap > least


def test_a_label_on_another_grid_is_not_put_back_by_nearest_voxels():
    geometry = geometry_of((8, 8, 8), affine_of("RAS"), (0, 1, 2), stored=(4, 4, 4))
    with pytest.raises(ValueError, match=r"expected a label \[8, 8, 8\]"):
        restore_label(np.zeros((4, 4, 4), np.uint8), geometry)


@settings(max_examples=100, deadline=None)
@given(
    codes=st.sampled_from(CODES),
    transpose=st.permutations([0, 1, 2]),
    stored=st.tuples(*[st.integers(3, 24)] * 3),
    rows=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_slabs_give_what_the_whole_scan_gives_whatever_the_orientation_and_the_box(
    codes, transpose, stored, rows, seed
):
    rng = np.random.default_rng(seed)
    whole = rng.integers(3, 24, 3)
    start = rng.integers(0, whole - 1)
    stop = rng.integers(start + 1, whole + 1)
    axes, _ = orientation(affine_of(codes), tuple(transpose))
    shape = tuple(int(whole[axes.index(axis)]) for axis in range(3))
    box = tuple(map(int, start)), tuple(map(int, stop))
    geometry = geometry_of(shape, affine_of(codes), tuple(transpose), box=box, stored=stored)
    scores = ndimage.gaussian_filter(rng.normal(size=(4, *stored)), (0, 1, 1, 1)).astype(np.float32)
    expected = np.stack([resample(each, geometry.cropped, (1, 1, 1)) for each in scores])
    ordered = np.sort(expected, axis=0)
    sure = ordered[-1] - ordered[-2] > 1e-6 * np.abs(expected).max()
    restored = restore(scores, geometry, rows)
    assert restored.shape == shape
    kept = orient(restored, geometry.axes, geometry.flips)[tuple(map(slice, *box))]
    np.testing.assert_array_equal(kept[sure], expected.argmax(0)[sure])
    assert sure.mean() > 0.99 or kept.size < 100
    outside = np.ones(shape, bool)
    orient(outside, geometry.axes, geometry.flips)[tuple(map(slice, *box))] = False
    assert not restored[outside].any()


def test_geometry_survives_json():
    geometry = geometry_of((3, 4, 5), affine_of("ASR"), (1, 2, 0))
    assert Geometry.model_validate_json(geometry.model_dump_json()) == geometry


def test_stored_shape_follows_the_spacing():
    assert stored_shape((100, 50, 7), (1.0, 0.5, 5.0), (2.0, 0.5, 1.0), 3) == (50, 50, 35)
    assert stored_shape((100, 50, 7), (1.0, 0.5, 5.0), (2.0, 0.5, 1.0), 2) == (50, 50, 7)
    assert stored_shape((1, 1, 1), (0.1, 0.1, 0.1), (9.0, 9.0, 9.0), 3) == (1, 1, 1)


def test_far_slices_are_interpolated_linearly():
    assert image_orders((1, 1, 1), (1, 1, 2.9)) == (3, 3, 3)
    assert image_orders((1, 1, 5), (1, 1, 1)) == (3, 3, 1)
    assert image_orders((1, 1, 1), (4, 1, 1)) == (1, 3, 3)


@settings(max_examples=100, deadline=None)
@given(
    codes=st.sampled_from(CODES),
    transpose=st.permutations([0, 1, 2]),
    shape=st.tuples(*[st.integers(2, 40)] * 3),
    size=st.tuples(*[st.integers(40, 64)] * 2),
    seed=st.integers(0, 1000),
)
def test_slices_of_a_fixed_size_come_back_exactly(codes, transpose, shape, size, seed):
    label = np.random.default_rng(seed).integers(1, 5, shape).astype(np.uint8)
    geometry = geometry_of(shape, affine_of(codes, (0.7, 1.2, 3.0)), tuple(transpose))
    geometry = geometry.model_copy(update={"stored": (*size, geometry.cropped[2]), "zoomed": True})
    stored = label_to_stored(label, geometry)
    assert stored.shape == geometry.stored
    restored = restore_label(stored, geometry)
    assert restored.shape == shape
    wrong = orient(restored != label, geometry.axes, geometry.flips)
    assert not wrong[:-1, :-1].any()  # scipy may fill the last row or column with zero
    assert not restored[restored != label].any()


def test_corner_voxels_of_zoomed_slices_are_those_of_the_scan():
    label = np.arange(1, 13, dtype=np.uint8).reshape(3, 4, 1)
    geometry = geometry_of((3, 4, 1), affine_of("RAS"), (0, 1, 2), stored=(9, 10, 1))
    stored = label_to_stored(label, geometry.model_copy(update={"zoomed": True}))[..., 0]
    assert stored[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [1, 4, 9, 12]
    assert stored[:, 0].tolist() == [1, 1, 5, 5, 5, 5, 9, 9, 9]
    by_field_of_view = label_to_stored(label, geometry)[:, 0, 0]
    assert by_field_of_view.tolist() == [1, 1, 1, 5, 5, 5, 9, 9, 9]
