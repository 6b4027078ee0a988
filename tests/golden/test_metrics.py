"""Metrics and largest component against values of medpy and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest

from golden_files import golden
from semiseg.metrics.mask_scores import score_masks
from semiseg.scans.components import largest_component

TOLERANCE = 1e-9


def test_volumes():
    file = golden("metrics")
    for name in file["names"]:
        values = {key.removeprefix(f"{name}/"): value for key, value in file.items() if key.startswith(f"{name}/")}
        scores = score_masks(values["pred"], values["gt"], values["spacing"])
        assert scores["dice"] == pytest.approx(values["dice"], abs=TOLERANCE), name
        assert scores["jaccard"] == pytest.approx(values["jaccard"], abs=TOLERANCE), name
        for unit, key in (("voxel", "vox"), ("mm", "mm")):
            for metric in ("hd95", "hd", "asd", "asd_reversed", "assd"):
                wanted = pytest.approx(values[f"{metric}_{key}"], abs=TOLERANCE)
                assert scores[f"{metric}_{unit}"] == wanted, (name, metric, unit)


def test_slice():
    file = golden("metrics")
    scores = score_masks(file["slice2d/pred"], file["slice2d/gt"])
    assert scores["dice"] == pytest.approx(file["slice2d/dice"], abs=TOLERANCE)
    assert scores["jaccard"] == pytest.approx(file["slice2d/jaccard"], abs=TOLERANCE)
    assert scores["hd95_voxel"] == pytest.approx(file["slice2d/hd95_vox"], abs=TOLERANCE)
    assert scores["asd_voxel"] == pytest.approx(file["slice2d/asd_vox"], abs=TOLERANCE)


@pytest.mark.parametrize("rule", ["official", "nan", "diagonal"])
def test_overlap_with_one_empty_mask(rule):
    file = golden("metrics")
    mask = file[f"{file['names'][0]}/pred"]
    scores = score_masks(mask, np.zeros_like(mask), empty=rule)
    assert scores["dice"] == file["empty/dice_pred_only"]
    assert scores["jaccard"] == file["empty/jaccard_pred_only"]


def test_largest_component():
    file = golden("metrics")
    numbers = sorted(key.removeprefix("lcc/mask") for key in file if key.startswith("lcc/mask"))
    assert numbers
    for number in numbers:
        np.testing.assert_array_equal(
            largest_component(file[f"lcc/mask{number}"]), file[f"lcc/out{number}"], err_msg=number
        )
