import nibabel as nib
import numpy as np
import pytest

from semiseg.errors import InputError
from semiseg.preparing.plan import Normalisation, Plan
from semiseg.preparing.preprocess import normalise, preprocess
from semiseg.scans.geometry import label_to_stored, restore_label
from semiseg.scans.readers import Volume

ZSCORE = Normalisation(scheme="zscore")


def plan_of(**edits):
    values = {
        "dataset": "X",
        "channels": ("MRI",),
        "class_names": ("background", "organ"),
        "spatial_dims": 3,
        "transpose": (0, 1, 2),
        "spacing": (1.0, 1.0, 1.0),
        "normalisation": (ZSCORE,),
        "patch": (8, 8, 8),
        "strides": ((1, 1, 1), (2, 2, 2)),
        "filters": (4, 8),
        "labelled_per_batch": 1,
        "unlabelled_per_batch": 1,
    }
    return Plan.model_validate(values | edits)


def scan(shape=(30, 28, 26), seed=0):
    """A bright noisy block in air, and the block as label."""
    rng = np.random.default_rng(seed)
    image = rng.rayleigh(3.0, shape).astype(np.float32)
    label = np.zeros(shape, np.uint8)
    label[8:20, 8:22, 7:18] = 1
    return image + label * rng.normal(200, 20, shape).astype(np.float32), label


def test_zscore_of_the_foreground():
    image, label = scan()
    result = normalise(image, ZSCORE, threshold=50)
    assert abs(result[label == 1].mean()) < 1e-4
    assert abs(result[label == 1].std() - 1) < 1e-4
    assert result.dtype == np.float32


def test_ct_clips_and_scales_with_fixed_numbers():
    how = Normalisation(scheme="ct", lower=-100, upper=300, mean=50, std=25)
    values = np.array([[[-1000, 50, 75, 3000]]], np.int16)
    np.testing.assert_allclose(normalise(values, how), [[[-6, 0, 1, 10]]])
    np.testing.assert_array_equal(values, [[[-1000, 50, 75, 3000]]])


def test_minmax_and_none():
    values = np.array([[[-2.0, 0.0, 6.0]]])
    np.testing.assert_allclose(normalise(values, Normalisation(scheme="minmax")), [[[0, 0.25, 1]]])
    fixed = Normalisation(scheme="minmax", lower=0, upper=4)
    np.testing.assert_allclose(normalise(values, fixed), [[[0, 0, 1]]])
    np.testing.assert_allclose(normalise(values, Normalisation(scheme="none")), values)


@pytest.mark.parametrize("scheme", ["zscore", "minmax"])
def test_constant_image_becomes_zero(scheme):
    result, geometry = preprocess(
        Volume(np.full((1, 5, 6, 7), 900, np.int16), np.eye(4)), plan_of(normalisation=[{"scheme": scheme}])
    )
    np.testing.assert_array_equal(result, 0)
    assert geometry.stored == (5, 6, 7)


def test_values_beyond_float16_are_clipped():
    image = np.array([0, 1e6, -1e6, 5], np.float32).reshape(1, 4, 1, 1)
    plan = plan_of(normalisation=[{"scheme": "none"}])
    result, _ = preprocess(Volume(image, np.eye(4)), plan, np.float16)
    assert result.dtype == np.float16
    np.testing.assert_array_equal(result.ravel(), [0, 65504, -65504, 5])


def test_crop_and_way_back():
    image, label = scan()
    result, geometry = preprocess(Volume(image[None], np.eye(4)), plan_of())
    assert (geometry.start, geometry.stop) == ((5, 5, 4), (23, 25, 21))
    assert result.shape == (1, 18, 20, 17)
    np.testing.assert_array_equal(restore_label(label_to_stored(label, geometry), geometry), label)


def test_the_same_scan_in_another_orientation_is_stored_alike():
    image, _ = scan()
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    plan = plan_of(spacing=(1.5, 1.0, 1.0), transpose=(2, 0, 1))
    expected, _ = preprocess(Volume(image[None], affine), plan)
    codes = nib.orientations.axcodes2ornt("SLP")
    turned = nib.Nifti1Image(image, affine).as_reoriented(codes)
    result, geometry = preprocess(Volume(np.asarray(turned.dataobj)[None], turned.affine), plan)
    assert geometry.shape == turned.shape != image.shape
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_resampled_to_the_planned_spacing():
    image, _ = scan()
    result, geometry = preprocess(Volume(image[None], np.diag([0.5, 0.5, 0.5, 1])), plan_of())
    assert geometry.cropped == (18, 20, 17)
    assert result.shape == (1, 9, 10, 8)


def test_slices_of_a_2d_plan_are_not_resampled():
    image, _ = scan((20, 20, 6))
    plan = plan_of(spatial_dims=2, patch=(8, 8), strides=((1, 1), (2, 2)), spacing=(2.0, 2.0, 1.0))
    result, geometry = preprocess(Volume(image[None], np.diag([1.0, 1.0, 8.0, 1.0])), plan)
    assert result.shape[3] == geometry.cropped[2]
    assert result.shape[1] == round(geometry.cropped[0] / 2)


def test_channels_have_their_own_normalisation_and_one_box():
    image, label = scan()
    second = 1000.0 * label
    plan = plan_of(channels=("MRI", "map"), normalisation=[{"scheme": "zscore"}, {"scheme": "minmax"}])
    result, _ = preprocess(Volume(np.stack([image, second]), np.eye(4)), plan)
    assert result.shape[0] == 2
    assert (result[1].min(), result[1].max()) == (0, 1)
    assert abs(result[0]).max() > 2


def test_whole_slices_of_a_fixed_size():
    """Nothing is cropped, the range is that of the whole volume, and every voxel is one of the scan's."""
    image, label = scan((30, 28, 6))
    plan = plan_of(
        spatial_dims=2,
        slice_size=(32, 48),
        patch=(32, 48),
        strides=((1, 1), (2, 2)),
        normalisation=(Normalisation(scheme="minmax"),),
    )
    affine = np.diag([1.5, 1.5, 8.0, 1.0])
    stored, geometry = preprocess(Volume(image[None], affine), plan)
    assert stored.shape == (1, 32, 48, 6)
    assert geometry.cropped == geometry.shape == (30, 28, 6)
    assert (stored.min(), stored.max()) == (0, 1)
    scaled = (image - image.min()) / (image.max() - image.min())
    assert np.isin(stored, scaled.astype(np.float32)).all()
    for z in range(6):
        assert stored[0, 0, 0, z] == scaled[0, 0, z]
    np.testing.assert_array_equal(restore_label(label_to_stored(label, geometry), geometry), label)


def test_a_spacing_that_would_fill_any_memory_is_refused():
    image, _ = scan()
    plan = plan_of(spacing=(0.01, 0.01, 0.01))
    with pytest.raises(InputError, match=r"spacing: \[0\.01, 0\.01, 0\.01\] mm would make \[.*voxels of"):
        preprocess(Volume(image[None], np.eye(4)), plan)


def test_a_hot_spot_does_not_move_the_zscore_of_tissue():
    image, _ = scan()
    plain = normalise(image, ZSCORE, threshold=50)
    image[9:11, 9:13, 8:17] = 2000  # 3 percent of the tissue
    spot = image == 2000
    spotted = normalise(image, ZSCORE, threshold=50)
    np.testing.assert_allclose(spotted[~spot], plain[~spot], atol=0.1, rtol=0.05)
    assert spotted[spot].min() > 50


def test_bright_tails_of_ordinary_tissue_count():
    image = np.random.default_rng(0).gamma(4, 25, (20, 20, 20)).astype(np.float32)
    result = normalise(image, ZSCORE, threshold=0)
    assert abs(result.mean()) < 1e-4
    assert abs(result.std() - 1) < 1e-4
