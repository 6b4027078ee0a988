"""Left atrium and pancreas: preprocessing, samples and batches against the official scripts and loaders."""

from __future__ import annotations

import numpy as np
import pytest

from golden_files import golden
from official_samples import SampleDraw, cut_centre, sample, turn_and_flip, two_stream_epoch
from semiseg.conversion.papers.abdominal_crop import coranet_box, mcnet_box, pad_to
from semiseg.conversion.papers.arrays import window, zscore
from semiseg.conversion.papers.la import atrium_box
from semiseg.conversion.papers.pancreas import WINDOW

KINDS = ("image", "label")


@pytest.fixture(scope="module")
def g() -> dict[str, np.ndarray]:
    return golden("dataset_la_pancreas")


def test_samples(g):
    assert g["n_aug"] > 0
    for number in range(int(g["n_aug"])):
        case = f"aug{number}"
        draw = SampleDraw(int(g[f"{case}/k"]), int(g[f"{case}/axis"]), tuple(g[f"{case}/offset"].tolist()))
        patch = g["out_size"].tolist()
        for kind in KINDS:
            array = g[f"{case}/{kind}"]
            turned = turn_and_flip(array, draw.quarters, draw.axis)
            np.testing.assert_array_equal(turned, g[f"{case}/rotflip_{kind}"], err_msg=case)
            np.testing.assert_array_equal(sample(array, patch, draw), g[f"{case}/crop_{kind}"], err_msg=case)
            np.testing.assert_array_equal(cut_centre(array, patch), g[f"{case}/center_{kind}"], err_msg=case)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_two_stream_batches(g, name):
    labelled, total, batch, unlabelled = g[f"sampler_{name}/config"].tolist()
    random = np.random.RandomState(int(g[f"sampler_{name}/numpy_seed"]))
    for wanted in g[f"sampler_{name}/epochs"]:
        sizes = (batch - unlabelled, unlabelled)
        epoch = two_stream_epoch(range(labelled), range(labelled, total), sizes, random.permutation)
        found = list(epoch)
        np.testing.assert_array_equal(found, wanted)
        assert len(found) == g[f"sampler_{name}/len"]


def test_left_atrium(g):
    mask = g["la/raw_label"] == 255
    spans = atrium_box(mask, g["la/output_size"].tolist(), g["la/draws"].tolist())
    np.testing.assert_array_equal(mask[spans], g["la/label"])
    image = zscore(g["la/raw"])[spans]
    assert image.dtype == g["la/image"].dtype
    np.testing.assert_allclose(image, g["la/image"], rtol=1e-5, atol=1e-6)


def test_pancreas_of_mcnet(g):
    probe = window(g["pancreas_mcnet/window_probe_in"], *WINDOW)
    np.testing.assert_allclose(probe, g["pancreas_mcnet/window_probe_out"], atol=1e-6)
    ct = g["pancreas_mcnet/ct"].astype(np.float32)
    mask = np.zeros(ct.shape, bool)
    mask[tuple(slice(*ends) for ends in g["pancreas_mcnet/label_box"])] = True
    spans = mcnet_box(mask)
    assert [span.start for span in spans] == g["pancreas_mcnet/crop_start"].tolist()
    assert [span.stop - span.start for span in spans] == g["pancreas_mcnet/crop_shape"].tolist()
    assert mask[spans].sum() == g["pancreas_mcnet/label_sum"]
    cropped = window(ct, *WINDOW)[spans]
    np.testing.assert_allclose([cropped.mean(), cropped.std()], g["pancreas_mcnet/mean_std_before_z"], rtol=1e-5)
    corner = g["pancreas_mcnet/corner"]
    found = zscore(cropped)[tuple(slice(side) for side in corner.shape)]
    np.testing.assert_allclose(found, corner, rtol=1e-5, atol=1e-5)


def test_pancreas_of_coranet(g):
    for row in g["pancreas_cora/table"].astype(int):
        shape, ends, box, padded, voxels = np.split(row, [3, 9, 15, 18])
        mask = np.zeros(shape, bool)
        mask[tuple(slice(*pair) for pair in ends.reshape(3, 2))] = True
        spans = coranet_box(mask)
        assert [[span.start, span.stop] for span in reversed(spans)] == box.reshape(3, 2).tolist()
        kept = pad_to(mask[spans])
        assert list(kept.shape) == padded.tolist()
        assert kept.sum() == voxels[0]
