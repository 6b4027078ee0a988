"""Slices of a fixed size against the official loader and test function (`dataset_acdc.npz`)."""

import numpy as np
import pytest
import torch

from golden_files import golden
from semiseg.prediction.windows import sliding_labels
from semiseg.preparing.plan import Normalisation, Plan
from semiseg.preparing.preprocess import preprocess
from semiseg.scans.geometry import Geometry, label_to_stored, restore_label
from semiseg.scans.readers import Volume
from semiseg.scans.resample import zoom_nearest


def plan_of(size):
    return Plan(
        dataset="ACDC",
        channels=("MRI",),
        class_names=("background", "right ventricle", "myocardium", "left ventricle"),
        spatial_dims=2,
        transpose=(0, 1, 2),
        spacing=(1.0, 1.0, 1.0),
        slice_size=size,
        normalisation=(Normalisation(scheme="none"),),
        patch=size,
        strides=((1, 1),),
        filters=(4,),
        labelled_per_batch=1,
        unlabelled_per_batch=1,
    )


def by_formula(scale, never=()):
    """The stand-in network of the golden file: the logit of class c is -scale (x - c / 3)^2."""
    centres = torch.arange(4).reshape(1, 4, 1, 1) / 3

    def predict(images):
        logits = -scale * (images - centres) ** 2
        logits[:, list(never)] = -torch.inf
        return torch.softmax(logits, 1)

    return predict


def test_resizing_of_dataset_acdc_slices():
    values = golden("dataset_acdc")
    size = tuple(int(side) for side in values["slice/output_size"])
    native = (*values["slice/image"].shape, 1)
    image, label = values["slice/image"][..., None], values["slice/label"][..., None]
    np.testing.assert_array_equal(zoom_nearest(image, (*size, 1))[..., 0], values["resize/image"])
    geometry = Geometry(
        shape=native,
        axes=(0, 1, 2),
        flips=(False, False, False),
        start=(0, 0, 0),
        stop=native,
        stored=(*size, 1),
        zoomed=True,
    )
    stored = label_to_stored(label, geometry)
    np.testing.assert_array_equal(stored[..., 0], values["resize/label"])
    np.testing.assert_array_equal(restore_label(stored, geometry)[..., 0], values["resize/back_label"])


@pytest.mark.parametrize(("group", "never"), [("vol", ()), ("vol_missing", (2,))])
def test_prediction_of_dataset_acdc_volumes(group, never):
    values = golden("dataset_acdc")
    volume = np.moveaxis(values[f"{group}/image"], 0, -1)[None].astype(np.float32)
    plan = plan_of((256, 256))
    image, geometry = preprocess(Volume(volume, np.eye(4)), plan)
    labels = sliding_labels(
        by_formula(float(values["net/scale"]), never), torch.from_numpy(image), plan.patch, plan.patch
    )
    restored = np.moveaxis(restore_label(labels.numpy(), geometry), -1, 0)
    np.testing.assert_array_equal(restored, values[f"{group}/prediction_256"])
