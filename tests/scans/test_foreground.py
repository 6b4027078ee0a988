import itertools

import numpy as np
import pytest

from semiseg.preparing.preprocess import _moments
from semiseg.scans.foreground import find_foreground, foreground_box, foreground_threshold
from semiseg.scans.geometry import orient, orientation
from semiseg.scans.readers import read_image, read_label


def box_of(image):
    return find_foreground(image if image.ndim == 4 else image[None]).box


def head(shape=(60, 50, 40), corner=(20, 15, 10), side=20, value=100.0):
    volume = np.zeros(shape, np.float32)
    volume[tuple(slice(c, c + side) for c in corner)] = value
    return volume


EXPECTED = ((17, 12, 7), (43, 38, 33))


def test_zero_background_is_cut_with_margin():
    assert box_of(head()) == EXPECTED


def test_noise_in_air_does_not_count():
    noise = np.random.default_rng(0).rayleigh(4.0, (60, 50, 40)).astype(np.float32)
    assert box_of(head() + noise) == EXPECTED


def test_ct_air_is_background():
    rng = np.random.default_rng(0)
    volume = head(value=1040.0) - 1000 + rng.normal(0, 20, (60, 50, 40))
    volume[25:30, 20:25, 15:20] = -850  # lung within the body
    volume[0, 0, 0] = 3000  # a single hot voxel
    assert box_of(np.maximum(volume, -1024).astype(np.int16)) == EXPECTED


def test_normalised_images_are_cut_alike():
    volume = head() + np.random.default_rng(0).rayleigh(4.0, (60, 50, 40)).astype(np.float32)
    assert box_of((volume - volume.mean()) / volume.std()) == EXPECTED


@pytest.mark.parametrize("value", [0, -1024, 7])
def test_constant_image_is_kept_whole(value):
    assert foreground_threshold(np.full((5, 6, 7), value, np.int16)) == -np.inf
    assert box_of(np.full((5, 6, 7), value, np.int16)) == ((0, 0, 0), (5, 6, 7))


def test_small_object_in_a_large_empty_volume():
    volume = np.zeros((100, 100, 100), np.float32)
    volume[50:55, 50:55, 50:55] = 1
    assert box_of(volume) == ((47, 47, 47), (58, 58, 58))


def test_any_channel_counts():
    first, second = head(corner=(5, 15, 10)), head(corner=(35, 15, 10))
    start, stop = box_of(np.stack([first, second]))
    assert (start[0], stop[0]) == (2, 58)


def test_all_foreground_and_single_slices_are_kept():
    rng = np.random.default_rng(0)
    assert box_of(rng.normal(80, 10, (12, 14, 10))) == ((0, 0, 0), (12, 14, 10))
    assert box_of(rng.normal(80, 10, (12, 14, 1))) == ((0, 0, 0), (12, 14, 1))


@pytest.mark.parametrize("seed", range(20))
def test_the_box_is_that_of_counted_planes_however_the_image_lies_in_memory(seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(rng.integers(1, 4), *rng.integers(1, 30, 3)))
    image[:, rng.random(image.shape[1:]) < 0.97] = 0
    thresholds = [foreground_threshold(channel) for channel in image]
    seen = (image > np.reshape(thresholds, (-1, 1, 1, 1))).any(0)
    spans = []
    for axis in range(3):
        plane = seen.sum(tuple({0, 1, 2} - {axis}))
        kept = np.flatnonzero(plane > 0.0005 * seen.size / seen.shape[axis])
        whole = (0, len(plane))
        spans.append((max(kept[0] - 3, 0), min(kept[-1] + 4, len(plane))) if len(kept) else whole)
    for order in itertools.permutations(range(3)):
        axes = (0, *(1 + axis for axis in order))
        laid = np.ascontiguousarray(image.transpose(axes)).transpose(np.argsort(axes))
        turned = laid[:, ::-1]
        assert foreground_box(laid, thresholds) == tuple(zip(*spans, strict=True))
        start, stop = foreground_box(turned, thresholds)
        assert (turned.shape[1] - stop[0], turned.shape[1] - start[0]) == spans[0]


def grid(shape):
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(float)


def ball(places, centre, radii):
    return (((places - centre) / radii) ** 2).sum(-1) < 1


def share_kept(image, mask):
    start, stop = find_foreground(image[None]).box
    return mask[tuple(map(slice, start, stop))].sum() / mask.sum()


SIDE = 64
PLACES = grid((SIDE,) * 3)
BODY = ball(PLACES, SIDE / 2, (25, 20, 30))
AIR = np.abs(np.random.default_rng(0).normal(0, 5, (SIDE,) * 3))


def with_spot(level, radius):
    image = np.where(BODY, AIR + 100, AIR)
    return np.where(ball(PLACES, (20, 25, 15), radius), level, image).astype(np.float32)


@pytest.mark.parametrize(("level", "radius"), [(500, 5), (1000, 6.5), (1000, 8.5), (2000, 8.5)])
def test_a_hot_spot_takes_no_tissue_away(level, radius):
    image = with_spot(level, radius)
    assert share_kept(image, BODY) == 1
    seen = image > foreground_threshold(image)
    assert seen[BODY].mean() > 0.99
    assert seen[~BODY].mean() < 0.01


@pytest.mark.parametrize("reach", [30, 15, 7.5, 5])
def test_shading_of_a_coil_takes_no_tissue_away(reach):
    falling = 1 / (1 + np.clip(PLACES[..., 1] - 12, 0, None) / reach) ** 2
    assert share_kept((AIR + BODY * 2000 * falling).astype(np.float32), BODY) > 0.999


def test_a_hot_spot_in_a_scan_that_is_tissue_everywhere_takes_nothing_away():
    image = np.random.default_rng(0).normal(80, 20, (40, 36, 30))
    image[3:11, 3:11, 3:11] = 1500  # 1.2 % of the voxels
    assert find_foreground(image[None]).box == ((0, 0, 0), (40, 36, 30))
    assert (image > foreground_threshold(image)).mean() > 0.5


def test_thin_things_above_padding_are_kept():
    volume = head(shape=(120, 120, 120), corner=(50, 50, 50))
    volume[60, 60, 5:60] = 100  # one voxel in planes of 14,400
    assert box_of(volume)[0] == (47, 47, 2)


def test_padding_without_air_cuts_no_tissue():
    """A skull-stripped brain: dark at its surface, and nothing around it."""
    brain = ball(PLACES, SIDE / 2, (25, 20, 22))
    surface = brain & ~ball(PLACES, SIDE / 2, (22, 17, 19))
    noise = np.random.default_rng(0).normal(0, 3, brain.shape)
    image = np.where(surface, 15, np.where(brain, 100, 0)) + noise * brain
    first, last = np.argwhere(brain).min(0), np.argwhere(brain).max(0)
    assert box_of(np.maximum(image, 0)) == (tuple(first - 3), tuple(last + 4))


def test_padding_close_around_tissue_cuts_no_tissue():
    brain = ball(PLACES, SIDE / 2, (30, 31, 30))
    surface = brain & ~ball(PLACES, SIDE / 2, (25, 26, 25))
    rng = np.random.default_rng(0)
    image = np.where(surface, rng.uniform(10, 90, brain.shape), rng.normal(100, 5, brain.shape)) * brain
    assert share_kept(image.astype(np.float32), brain) == 1


@pytest.mark.parametrize("padding", [-2048, -1024])
def test_air_within_the_circle_of_a_ct_is_cut(padding):
    rng = np.random.default_rng(0)
    places = grid((96, 96, 20))
    circle = ball(places[..., :2], 47.5, 48)
    body = ball(places[..., :2], 47.5, (30, 20))
    ct = np.where(body, 40, -1000) + rng.normal(0, 15, body.shape)
    ct = np.where(circle, np.maximum(ct, -1024), padding).astype(np.int16)
    start, stop = box_of(ct)
    assert (start[:2], stop[:2]) == ((15, 25), (81, 71))


def test_air_inside_of_empty_planes_is_cut():
    rng = np.random.default_rng(0)
    volume = head() + rng.rayleigh(4.0, (60, 50, 40))
    volume[:4] = volume[-4:] = volume[:, :3] = 0
    assert box_of(volume) == EXPECTED


def test_a_constant_channel_says_nothing_beside_another():
    assert box_of(np.stack([head(), np.full((60, 50, 40), 7, np.float32)])) == EXPECTED


@pytest.mark.parametrize(("name", "number"), [("acdc", 3), ("la", 3), ("hippocampus", 3)])
def test_real_scans_with_a_hot_spot_keep_their_labels(real_data, name, number):
    path = sorted((real_data / name / "labelsTr").glob("*.nii.gz"))[number]
    scan = read_image([real_data / name / "imagesTr" / path.name.replace(".nii.gz", "_0000.nii.gz")])
    axes = orientation(scan.affine)
    image = orient(scan.array, *axes)[0].astype(np.float32)
    labelled = orient(read_label(path).array, *axes) > 0
    before = _moments(image, foreground_threshold(image))
    sides = [max(round(side * 0.012 ** (1 / 3)), 1) for side in image.shape]
    image[tuple(slice(start, start + side) for start, side in zip((2, 2, 0), sides, strict=True))] = 10 * np.percentile(
        image, 99
    )
    assert share_kept(image, labelled) == 1
    assert _moments(image, foreground_threshold(image)) == pytest.approx(before, rel=0.05, abs=0.05 * before[1])


@pytest.mark.parametrize("name", ["acdc", "la", "hippocampus"])
def test_real_scans_keep_every_labelled_voxel(real_data, name):
    for path in sorted((real_data / name / "labelsTr").glob("*.nii.gz"))[::8]:
        scan = read_image([real_data / name / "imagesTr" / path.name.replace(".nii.gz", "_0000.nii.gz")])
        axes = orientation(scan.affine)
        image = orient(scan.array, *axes)
        assert share_kept(image[0], orient(read_label(path).array, *axes) > 0) == 1
